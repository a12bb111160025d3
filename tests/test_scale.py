"Training on many devices: the files in configs/, weights that are spread over processes, and the plan against what a step takes."
import json, os

import pytest

from helpers import ROOT, finish, start
from vary_nb.train import main, read_log

CONFIGS = sorted((ROOT/'configs').glob('*.yaml'))

@pytest.mark.parametrize('path', CONFIGS, ids=[p.stem for p in CONFIGS])
def test_accelerate_reads_our_configs(path):
    "Every key is one that Accelerate knows."
    from accelerate.commands.config.config_args import load_config_from_file
    config = load_config_from_file(str(path))
    text = path.read_text('utf8')
    assert f'--config_file configs/{path.name}' in text and config.num_processes==8
    assert config.distributed_type==dict(ddp='MULTI_GPU', fsdp2='FSDP', zero2='DEEPSPEED')[path.stem]
    if path.stem=='zero2': assert json.loads((ROOT/config.deepspeed_config['deepspeed_config_file']).read_text())['zero_optimization']['stage']==2
    if path.stem=='fsdp2':
        from vary_nb.model.vary import VaryForConditionalGeneration, build
        wrapped = set(config.fsdp_config['fsdp_transformer_layer_cls_to_wrap'].split(','))
        assert wrapped<=set(VaryForConditionalGeneration._no_split_modules) and wrapped=={type(m).__name__ for m in build('micro')[0].modules()} & set(VaryForConditionalGeneration._no_split_modules)


# Accelerate starts FSDP on accelerators only. This makes it start on the CPU, with the settings of our file: from there on
# everything is as it would be, down to PyTorch's fully_shard over gloo.
SHARDED = '''
import os, sys, yaml
from accelerate import DistributedType, state
from accelerate.utils import FullyShardedDataParallelPlugin
settings = yaml.safe_load(open('configs/fsdp2.yaml'))['fsdp_config']
for k,v in settings.items(): os.environ[k.upper().replace('LAYER_CLS', 'CLS')] = str(v).lower() if isinstance(v, bool) else str(v)
begin = state.AcceleratorState.__init__
def init(self, *a, **kw):
    known = self.initialized; begin(self, *a, **kw)
    if not known:
        self.distributed_type = state.PartialState._shared_state['distributed_type'] = DistributedType.FSDP
        self.fsdp_plugin = FullyShardedDataParallelPlugin()
state.AcceleratorState.__init__ = init
import vary_nb.train as train
old = train.setup
def setup(*a):
    r = old(*a)
    from torch.distributed.tensor import DTensor
    spread = [p for p in r.wrapped.parameters() if isinstance(p, DTensor)]
    assert len(spread)==len(list(r.wrapped.parameters())), 'a weight is not spread'
    here,all_ = sum(p.to_local().numel() for p in spread), sum(p.numel() for p in spread)
    assert .4*all_<here<.6*all_, (here, all_)
    assert sum(type(m).__name__.startswith('FSDP') for m in r.wrapped.modules())==5, 'two blocks, two layers, and the rest'
    return r
train.setup = setup
sys.exit(train.main(sys.argv[1:]))
'''

@pytest.fixture
def options(tmp_path):
    recipe = tmp_path/'words.yaml'; recipe.write_text('name: words\nsamples: 96\nparts: [{engine: "engines:Words", settings: {shortest: 1, length: 5}}]\n')
    def make(out, **more):
        more = dict(recipe=recipe, out=out, preset='micro', levels='1x2', tokens=8, least=1, log_every=1, eval_every=4, eval_n=2, warmup=4, precision='no', device='cpu', threads=1, muon=0, workers=0) | more
        return [x for k,v in more.items() for x in ('--'+k.replace('_','-'), str(v))]
    return make

def rows(folder): return [(r['step'], r['text'], r['norm']) for r in read_log(folder/'log.jsonl') if 'ms' in r]

def test_fully_sharded_is_not_sharded(tmp_path, options):
    "Two processes with half of every weight each, stopped after four steps and resumed, walk the path of one process with all."
    script = tmp_path/'sharded.py'; script.write_text(SHARDED)
    two,one = tmp_path/'two',tmp_path/'one'
    run = lambda steps: finish(start('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', script, *options(two, steps=steps, accumulate=2, schedule='constant')), timeout=300)
    status,_,err = run(4); assert status==0, err[-2500:]
    status,_,err = run(7); assert status==0, err[-2500:]
    assert main(options(one, steps=7, tokens=16, accumulate=2, schedule='constant'))==0
    a,b = rows(two),rows(one)
    assert [s for s,*_ in a]==list(range(1,8)) and 'resumed at step 4' in [r.get('note') for r in read_log(two/'log.jsonl')]
    assert [x for r in a for x in r]==pytest.approx([x for r in b for x in r], rel=2e-3, abs=1e-3)
    from safetensors.torch import load_file
    x,y = (load_file(f/'final/model.safetensors') for f in (two,one))
    assert x.keys()==y.keys() and all((x[k].float()-y[k].float()).abs().max()<2e-3 for k in x)
    assert [r['cer'] for r in read_log(two/'log.jsonl') if r.get('kind')=='eval'] and (two/'best/config.json').is_file()


def test_what_cannot_be_sharded(monkeypatch):
    "Muon needs whole matrices: a line, before anything is built."
    from accelerate import DistributedType
    from vary_nb.core import BadInput
    from vary_nb import train
    monkeypatch.setattr(train, 'sharded', lambda acc: acc is not DistributedType.NO)
    with pytest.raises(BadInput, match='muon=0.005: not with sharded'): train.machine(train.TrainConfig(out='o', steps=1, device='cpu'))
    with pytest.raises(BadInput, match='ema=0.9: not with sharded'): train.machine(train.TrainConfig(out='o', steps=1, device='cpu', muon=0., ema=.9))


def test_plan_on_the_command_line(vary):
    status,out,_ = vary('train', '--plan', '--preset', 'tiny', '--checkpointing')
    assert status==0 and '221,595,648 parameters' in out and 'H200' in out and '16,817 steps' in out


@pytest.mark.skipif(not os.environ.get('VARY_SLOW'), reason='minutes and 10 GB: VARY_SLOW=1 pytest tests/test_scale.py -k real_step -s')
def test_a_real_step_of_tiny():
    "The paper's model, 1024 x 1024 pixels, 256 image tokens and 3,000 of text on 4,096 positions: a step lowers the loss."
    import resource, time
    import torch
    from vary_nb.loss import TrainStep
    from vary_nb.model.vary import VaryForConditionalGeneration, interpolate_positions, preset
    from vary_nb.optim import optimisers
    torch.manual_seed(0); c = preset('tiny'); c.text_config.dropout = 0.
    model = interpolate_positions(VaryForConditionalGeneration(c), 4096); model.gradient_checkpointing_enable(dict(use_reentrant=False))
    ids = torch.randint(5, 50000, (1,258+3000)); ids[:,0],ids[:,1:257],ids[:,257] = c.image_ids
    labels = ids.clone(); labels[:,:258] = -100
    batch = dict(pixel_values=torch.randn(1,3,1024,1024), input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=torch.arange(3258)[None], labels=labels)
    step = TrainStep(model.train(), chunk=512); opt, = optimisers(step, 1e-4, decay=0.); took,losses = [],[]
    for _ in range(2):
        began = time.time(); out = step(batch); losses.append(out['total'].item())
        out['total'].backward(); opt.step(); opt.zero_grad(); took.append(time.time()-began)
        print(f'loss {losses[-1]:.3f}, {took[-1]:.0f} s, {time.process_time():.0f} CPU-seconds in all, at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6:.1f} GB', flush=True)
    gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6
    assert abs(losses[0]-10.8)<.5 and losses[1]<losses[0] and gb<16
