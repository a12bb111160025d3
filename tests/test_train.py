"Training that is killed, stopped, resumed, repeated, and run by two processes."
import os, signal, time

import pytest

from helpers import finish, start
from vary_nb.model.vary import load
from vary_nb.train import main, read_log

RECIPE = 'name: words\nparts: [{engine: "engines:Words"}]\n'

@pytest.fixture
def options(tmp_path):
    "Options of a run in a folder."
    recipe = tmp_path/'words.yaml'; recipe.write_text(RECIPE)
    def make(out, steps, tokens=16, **more):
        more = dict(preset='micro', levels='1x2', least=2, log_every=1, eval_every=0, warmup=4, precision='no', device='cpu', threads=1, glyph=0) | more
        return [x for k,v in dict(recipe=recipe, out=out, steps=steps, tokens=tokens, **more).items() for x in ('--'+k.replace('_','-'), str(v))]
    return make

def losses(folder):
    "step -> loss; of a step that was done again, the last."
    return {r['step']: r['text'] for r in read_log(folder/'log.jsonl') if 'ms' in r}

def wait_for(condition, process, seconds=90):
    end = time.time()+seconds
    while not condition() and process.poll() is None and time.time()<end: time.sleep(.01)
    assert process.poll() is None, finish(process)[2][-800:]

def steps_done(folder): return max(losses(folder), default=0) if (folder/'log.jsonl').exists() else 0


def test_killed_stopped_and_resumed(tmp_path, options):
    "SIGKILL while checkpoints are written, then SIGTERM, then to the end: the losses of a run that nobody disturbed."
    out,whole = tmp_path/'out',tmp_path/'whole'
    p = start('-m', 'vary_nb.train', *options(out, 24, save_every=0))
    wait_for(lambda: steps_done(out)>=4, p)
    os.killpg(p.pid, signal.SIGKILL); p.communicate()
    assert (out/'last/train.json').is_file() and not (out/'final').exists()
    before = steps_done(out)
    p = start('-m', 'vary_nb.train', *options(out, 24, save_every=0))
    wait_for(lambda: steps_done(out)>=before+3, p)
    p.terminate(); status,_,err = finish(p)
    assert status==0, err
    end = read_log(out/'log.jsonl')[-1]
    assert end['kind']=='end' and not end['finished'] and end['step']<24, 'a polite stop after the step'
    assert not (out/'final').exists()
    assert main(options(out, 24))==0 and main(options(whole, 24))==0
    log = read_log(out/'log.jsonl'); notes = [r['note'] for r in log if r.get('kind')=='header']
    assert notes[0]=='start' and notes[2]==f"resumed at step {end['step']}" and int(notes[1].split()[-1])>=before-1
    assert log[-1]['finished'] and log[-1]['step']==24
    ours,theirs = losses(out),losses(whole)
    assert sorted(ours)==sorted(theirs)==list(range(1,25))
    assert ours==pytest.approx(theirs, abs=1e-3)
    assert theirs[24]<theirs[1]-.5, 'it learns'
    a,b = (load(f/'final')[0].state_dict() for f in (out,whole))
    assert all((a[k]-b[k]).abs().max()<1e-3 for k in b)
    assert not [q.name for q in out.iterdir() if q.name.startswith('.')], 'leftovers'


def test_two_processes_are_one(tmp_path, options):
    "torchrun with two processes, half a batch each, walks the path of one process with the whole batch."
    two,one = tmp_path/'two',tmp_path/'one'
    p = start('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m', 'vary_nb.train', *options(two, 6, tokens=8))
    assert main(options(one, 6, tokens=16))==0
    status,_,err = finish(p)
    assert status==0, err[-1500:]
    log = read_log(two/'log.jsonl')
    assert log[0]['processes']==2 and [r['step'] for r in log if 'ms' in r]==list(range(1,7)), 'one log, not two'
    assert log[-1]['drawn']==read_log(one/'log.jsonl')[-1]['drawn']==[48]
    assert losses(two)==pytest.approx(losses(one), abs=1e-4)
    assert [r['norm'] for r in log if 'ms' in r]==pytest.approx([r['norm'] for r in read_log(one/'log.jsonl') if 'ms' in r], abs=2e-3)
