"""The same shards from our own processes, from datatrove on this machine, on Slurm and on a Ray cluster that loses a node.

    python tests/test_cluster.py runs/cluster.jsonl     # the same as a script: one line of JSON for each run"""
import json, os, shutil, signal, socket, subprocess, sys, tempfile, threading, time
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
os.environ.update(PYTHONPATH=os.pathsep.join(sys.path[:2]), OMP_NUM_THREADS='1', RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO='0',
                  RAY_USAGE_STATS_ENABLED='0', RAY_health_check_period_ms='500', RAY_health_check_failure_threshold='6')

import pytest

from helpers import free_port
from vary_nb.data.cluster import check, run_on
from vary_nb.data.recipes import Part, Recipe, build

RECIPE = Recipe('words', [Part('engines:Words', weight=3), Part('Pictures')], samples=480, shard_size=40, size=(64,192))
NEEDS = 'slurmctld','slurmd','munged','sbatch','squeue','scontrol'


def shards(manifest): return [(s['shard'], s['sha256']) for s in manifest['shards']]

def reports(out): return list(Path(out).glob('*.report.json'))


@contextmanager
def slurm(folder):
    "A controller and one node of two cores, real ones, with a key of their own."
    name,run = socket.gethostname().partition('.')[0],Path(folder)
    for d in ('state','spool','munge'): (run/d).mkdir(parents=True, mode=0o700)
    key = run/'munge/key'; key.write_bytes(os.urandom(1024)); key.chmod(0o400); user = subprocess.check_output(['id','-un'], text=True).strip()
    conf = run/'slurm.conf'
    conf.write_text('\n'.join(f'{k}={v}' for k,v in dict(
        ClusterName='test', SlurmctldHost=f'{name}(127.0.0.1)', SlurmUser=user, SlurmdUser=user, SlurmctldPort=free_port(), SlurmdPort=free_port(),
        AuthType='auth/munge', AuthInfo=f'socket={run}/munge/socket', CredType='cred/munge', StateSaveLocation=run/'state', SlurmdSpoolDir=run/'spool',
        SlurmctldPidFile=run/'ctld.pid', SlurmdPidFile=run/'slurmd.pid', SlurmctldLogFile=run/'ctld.log', SlurmdLogFile=run/'slurmd.log',
        ProctrackType='proctrack/linuxproc', TaskPlugin='task/none', SelectType='select/cons_tres', SelectTypeParameters='CR_Core',
        ReturnToService=2, MpiDefault='none', JobAcctGatherType='jobacct_gather/none', AccountingStorageType='accounting_storage/none').items())
        + f'\nNodeName={name} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN\nPartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n')
    started = [subprocess.Popen(['munged','--foreground',f'--key-file={key}',f'--socket={run}/munge/socket',f'--pid-file={run}/munge/pid',
                                 f'--log-file={run}/munge/log',f'--seed-file={run}/munge/seed','--force'], stderr=subprocess.DEVNULL)]
    before = os.environ.get('SLURM_CONF'); os.environ['SLURM_CONF'] = str(conf)
    try:
        for k in range(100):
            if (run/'munge/socket').exists(): break
            time.sleep(.1)
        for daemon in ('slurmctld','slurmd'): started.append(subprocess.Popen([daemon,'-D','-f',str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for k in range(300):
            if 'idle' in subprocess.run(['sinfo','-h','-o','%T'], capture_output=True, text=True).stdout: break
            time.sleep(.1)
        else: raise RuntimeError('Slurm did not come up: ' + (run/'ctld.log').read_text()[-500:] if (run/'ctld.log').exists() else 'no log')
        yield
    finally:
        for p in reversed(started): p.terminate()
        for p in reversed(started):
            try: p.wait(10)
            except subprocess.TimeoutExpired: p.kill(); p.wait()
        os.environ.pop('SLURM_CONF') if before is None else os.environ.update(SLURM_CONF=before)


@contextmanager
def ray_cluster(nodes):
    "A head without cores and some nodes with one each, every one a process of its own."
    import ray
    from ray.cluster_utils import Cluster
    small = dict(object_store_memory=80<<20, include_dashboard=False)
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, **small))
    try:
        workers = [cluster.add_node(wait=False, num_cpus=1, memory=2<<30, **small) for _ in range(nodes)]
        cluster.wait_for_nodes(); ray.init(address=cluster.address, log_to_driver=False, logging_level='error')
        yield cluster, workers
    finally: ray.shutdown(); cluster.shutdown()


def on_slurm(recipe, out, folder):
    with slurm(folder): return run_on(recipe, out, 'slurm', workers=2, time='00:10:00', mem_per_cpu_gb=1)

def on_ray(recipe, out):
    "One of three nodes is killed, with all its processes, as soon as two shards are there."
    killed = []
    with ray_cluster(3) as (_,nodes):
        def kill():
            while len(reports(out))<2: time.sleep(.02)
            for infos in nodes[1].all_processes.values():
                for info in infos: os.kill(info.process.pid, signal.SIGKILL)
            killed.append(len(reports(out)))
        watch = threading.Thread(target=kill, daemon=True); watch.start()
        manifest = run_on(recipe, out, 'ray', workers=3, mem_per_cpu_gb=.25)
    assert killed and killed[0]<recipe.shards, 'no node was killed in the middle'
    return manifest


@pytest.fixture(scope='module')
def truth(tmp_path_factory): return shards(build(RECIPE, tmp_path_factory.mktemp('truth'), workers=1))


def test_workers_make_no_difference(truth, tmp_path):
    assert shards(build(RECIPE, tmp_path/'2', workers=2))==shards(build(RECIPE, tmp_path/'4', workers=4))==truth


def test_slurm(truth, tmp_path):
    "A real controller and node; the second run finds everything and starts nothing."
    if lost := [n for n in NEEDS if not shutil.which(n)]: pytest.skip(f'Slurm is not here ({", ".join(lost)}): make system')
    out = tmp_path/'out'
    assert shards(on_slurm(RECIPE, out, tmp_path/'slurm'))==truth
    assert check(out, workers=1)['wrong']=={}
    assert shards(run_on(RECIPE, out, 'slurm'))==truth, 'nothing left to do: no Slurm is needed'


def test_ray_loses_a_node(truth, tmp_path):
    pytest.importorskip('ray', reason='Ray is not here: pip install ray')
    out = tmp_path/'out'
    assert shards(on_ray(RECIPE, out))==truth
    assert check(out, workers=1)['wrong']=={}


def main(log):
    "Every runner once, with the clock."
    top = Path(tempfile.mkdtemp(prefix='vary-cluster-')); rows = []
    def run(on, what, workers, f):
        start = time.time(); got = shards(f()); rows.append(dict(on=on, what=what, workers=workers, shards=len(got), samples=RECIPE.samples,
            seconds=round(time.time()-start, 1), got=got))
    run('processes', 'our own pool', 2, lambda: build(RECIPE, top/'a', workers=2))
    run('datatrove local', 'its pool', 2, lambda: run_on(RECIPE, top/'b', 'local', workers=2))
    run('datatrove slurm', 'slurmctld and slurmd started for it', 2, lambda: on_slurm(RECIPE, top/'c', top/'slurm'))
    run('datatrove ray', 'three node processes, one killed', 3, lambda: on_ray(RECIPE, top/'d'))
    Path(log).write_text(''.join(json.dumps({k:v for k,v in r.items() if k!='got'} | dict(same=r['got']==rows[0]['got'])) + '\n' for r in rows))
    shutil.rmtree(top)


if __name__=='__main__': main(sys.argv[1])
