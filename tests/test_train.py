"Training that is killed, stopped, resumed, repeated, and run by two processes."
import json, os, random, shutil, signal, time

import pytest
import torch

from helpers import finish, start
from vary_nb.data.recipes import build as build_shards, load_recipe
from vary_nb.model.vary import load
from vary_nb.train import main, read_log

RECIPE = 'name: words\nsamples: 96\nshard_size: 40\nparts: [{engine: "engines:Words"%s}]\n'

@pytest.fixture
def options(tmp_path):
    "Options of a run in a folder."
    def make(out, steps, tokens=16, settings='', **more):
        recipe = tmp_path/'words.yaml'; recipe.write_text(RECIPE % settings)
        more = dict(preset='micro', levels='1x2', least=2, log_every=1, eval_every=0, warmup=4, precision='no', device='cpu', threads=1, glyph=0, workers=0) | more
        if 'shards' not in more: more['recipe'] = recipe
        return [x for k,v in dict(out=out, steps=steps, tokens=tokens, **more).items() for x in ('--'+k.replace('_','-'), str(v))[:1 if v is True else 2]]
    return make

def losses(folder):
    "step -> loss; of a step that was done again, the last."
    return {r['step']: r['text'] for r in read_log(folder/'log.jsonl') if 'ms' in r}

def wait_for(condition, process, seconds=120):
    end = time.time()+seconds
    while not condition() and process.poll() is None and time.time()<end: time.sleep(.01)
    assert process.poll() is None, finish(process)[2][-800:]

def steps_done(folder): return max(losses(folder), default=0) if (folder/'log.jsonl').exists() else 0

def weights(folder): return (folder/'final/model.safetensors').read_bytes()

def torchrun(n, *args): return start('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', n, '-m', 'vary_nb.train', *args)


def test_killed_stopped_and_resumed(tmp_path, options):
    "SIGKILL at a random moment while checkpoints are written, SIGTERM, then to the end: bitwise the weights of a run that nobody disturbed."
    out,whole = tmp_path/'out',tmp_path/'whole'
    options(out, 1); build_shards(load_recipe(tmp_path/'words.yaml'), tmp_path/'data', workers=1)
    how = dict(save_every=0, shards=tmp_path/'data', buffer=32, group=3, accumulate=2, tokens=8, ema=.9, glyph=1)
    p = start('-m', 'vary_nb.train', *options(out, 24, **how))
    wait_for(lambda: steps_done(out)>=3, p); time.sleep(random.random()*.3)
    os.killpg(p.pid, signal.SIGKILL); p.communicate()
    assert (out/'last/train.json').is_file() and not (out/'final').exists()
    before = steps_done(out)
    p = start('-m', 'vary_nb.train', *options(out, 24, **how))
    wait_for(lambda: steps_done(out)>=before+2, p)
    p.terminate(); status,_,err = finish(p)
    assert status==0, err
    end = read_log(out/'log.jsonl')[-1]
    assert end['kind']=='end' and not end['finished'] and end['step']<24, 'a polite stop after the step'
    assert not (out/'final').exists()
    assert main(options(out, 24, **how))==0 and main(options(whole, 24, **how))==0
    log = read_log(out/'log.jsonl'); notes = [r['note'] for r in log if r.get('kind')=='header']
    assert notes[0]=='start' and notes[2]==f"resumed at step {end['step']}" and int(notes[1].split()[-1])>=before-1
    assert log[-1]['finished'] and log[-1]['step']==24 and log[-1]['drawn']==[24*2*4]
    ours,theirs = losses(out),losses(whole)
    assert ours==theirs and sorted(ours)==list(range(1,25))
    assert theirs[24]<theirs[1]-.5, 'it learns'
    assert weights(out)==weights(whole)
    assert not [q.name for q in out.iterdir() if q.name.startswith('.')], 'leftovers'


def test_two_processes_are_one(tmp_path, options):
    "Texts of one to nine letters: two processes, accumulation, or all at once walk one path, because characters are weighed and not batches."
    unequal = ', settings: {shortest: 1, length: 9, size: [32, 96]}'
    how = dict(settings=unequal, levels='1x3', glyph=1, muon=0, least=1)
    two,one,four = tmp_path/'two',tmp_path/'one',tmp_path/'four'
    p = torchrun(2, *options(two, 6, tokens=12, **how))
    assert main(options(one, 6, tokens=24, **how))==0
    assert main(options(four, 6, tokens=6, batch=8, **how))==0
    status,_,err = finish(p)
    assert status==0, err[-1500:]
    log = read_log(two/'log.jsonl')
    assert log[0]['processes']==2 and [r['step'] for r in log if 'ms' in r]==list(range(1,7)), 'one log, not two'
    ends = [read_log(f/'log.jsonl')[-1] for f in (two,one,four)]
    assert [e['drawn'] for e in ends]==[[48]]*3 and len({e['chars'] for e in ends})==1
    assert read_log(four/'log.jsonl')[0]['accumulate']==4
    for other in (two,four):
        assert losses(other)==pytest.approx(losses(one), abs=2e-4)
        assert [r['norm'] for r in read_log(other/'log.jsonl') if 'ms' in r]==pytest.approx([r['norm'] for r in read_log(one/'log.jsonl') if 'ms' in r], rel=2e-3, abs=2e-3)


def test_workers_change_nothing_and_tensorboard(tmp_path, options):
    "The same weights with a worker that draws ahead; its waiting time is logged; the numbers reach TensorBoard."
    a,b = tmp_path/'a',tmp_path/'b'
    pytest.importorskip('tensorboard')
    assert main(options(a, 6, levels='1x2,1x4', first=1, mix=.5, group=2))==0
    status,_,err = finish(start('-m', 'vary_nb.train', *options(b, 6, levels='1x2,1x4', first=1, mix=.5, group=2, tracker='tensorboard', workers=1)))
    assert status==0, err[-1500:]
    assert weights(a)==weights(b)
    rows = read_log(b/'log.jsonl')
    assert rows[0]['workers']==1 and all(0<=r['wait']<=r['ms'] for r in rows if 'ms' in r)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(next((b/'tracker').rglob('events.*')).parent)).Reload()
    assert [round(e.value, 4) for e in events.Scalars('train/text')]==[pytest.approx(r['text'], abs=1e-4) for r in rows if 'ms' in r]


def test_settings_that_change_what_is_trained(tmp_path, options):
    "Frozen stays frozen, twice computed is the same, and what cannot be is said in a line."
    out,plain,new = tmp_path/'out',tmp_path/'plain',tmp_path/'new'
    assert main(options(out, 3, freeze='vision.*', rate='projector.*=0.5', checkpointing=True))==0
    assert main(options(plain, 3, freeze='vision.*', rate='projector.*=0.5'))==0
    assert weights(out)==weights(plain)
    torch.manual_seed(0); from vary_nb.model.vary import build
    first = build('micro')[0].state_dict(); last = torch.load(out/'last/training.pt')['opts']
    then = load(out/'last')[0].state_dict()
    assert all(torch.equal(first[k], then[k])==k.startswith('vision.') for k in first if 'lm_head' not in k and k.endswith('weight'))
    assert len(last)==2
    assert main(options(out, 4))==2, 'other groups of parameters'
    state = json.loads((out/'last/train.json').read_text()); assert state['step']==3
    assert main(options(new, 2, init=out/'final'))==0
    assert read_log(new/'log.jsonl')[0]['note']=='start from the weights of final'
    shutil.rmtree(new); assert main(options(new, 2, freeze='eye'))==2
