"""What does the encoder cost at paper size? transformers' SAM against our forms of attention: time, memory, kernels.

    python tests/bench_attention.py --out runs/bench_attention.jsonl
    python tests/bench_attention.py --sizes 256 512 768 --ways hf-eager tiles --out runs/bench_attention.jsonl
    python tests/bench_attention.py --dtype bfloat16 --rounds 1 --ways hf-eager augmented tiles --out runs/bench_attention.jsonl
    python tests/bench_attention.py --device cuda --dtype bfloat16 --backward --out runs/bench_attention.jsonl

One picture, random weights. hf-eager and hf-sdpa are transformers' `SamVisionModel`, which ends before the two last
convolutions; ours has them. flex is our layer with FlexAttention (compiled on CUDA), cudnn the augmented form with cuDNN's
kernel. Every measurement has a process of its own; the ways take turns, and `times` is the median over the rounds of the
ratio to hf-eager of the same round. On a CPU counted are seconds of processor time of one forward pass (--threads, 1)
and the peak of resident memory above what the process held with model and picture loaded. On CUDA it is milliseconds
between events, median of --repeats after two unmeasured passes, the peak of allocated memory above model and picture,
and the share of the matrix product rate that the same process measures: the arithmetic counted is that of the eager
formula for every way, so extra channels earn nothing. A way that fails is reported with its error.
The output is one JSON line for each size; with --out they are appended to that file, after a line about the machine."""
import argparse, json, os, platform, statistics, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
WAYS = 'hf-eager', 'hf-sdpa', 'eager', 'bias', 'augmented', 'tiles'
CUDA = 'flash', 'cudnn', 'flex'


def attend_flex(compiled):
    "FlexAttention with the position lists looked up in its score function."
    import torch
    from torch.nn.attention.flex_attention import flex_attention
    run = torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
    def attend(q, k, v, to_rows, to_cols):
        w = to_cols.shape[-1]
        return run(q, k, v, score_mod=lambda s, b, h, i, j: s + to_rows[b, h, i, j//w] + to_cols[b, h, i, j%w])
    return attend


def build(way, size, micro):
    "An encoder and the way it is called."
    import torch
    from transformers import SamVisionConfig, SamVisionModel
    from vary_nb.model import attention
    from vary_nb.model.vocabulary import VaryVisionConfig, VisionVocabulary
    torch.manual_seed(0)
    c = VaryVisionConfig.micro(grid=(size//8,)*2) if micro else VaryVisionConfig(grid=(size//16,)*2)
    if way.startswith('hf-'):
        sizes = SamVisionConfig(hidden_size=c.hidden_size, output_channels=c.neck, num_hidden_layers=c.num_hidden_layers,
            num_attention_heads=c.num_attention_heads, mlp_dim=c.mlp_dim, image_size=size, patch_size=c.patch_size,
            window_size=c.window_size, global_attn_indexes=c.global_layers)
        net = SamVisionModel._from_config(sizes, attn_implementation=way[3:])
    else:
        if way=='cudnn': attention.KERNELS[:] = [torch.nn.attention.SDPBackend.CUDNN_ATTENTION]
        if way=='flex': attention.FORMS['flex'] = attend_flex(torch.cuda.is_available())
        net = VisionVocabulary(c)
        for block in net.blocks: block.attn.form = {'cudnn':'augmented'}.get(way, way)
    for name,p in net.named_parameters():
        if 'pos' in name: torch.nn.init.normal_(p, std=.1)  # empty tables would be no test
    return net.eval()


def flops(size, micro):
    "Arithmetic of one forward pass, eager form."
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    with torch.device('meta'): net = build('eager', size, micro)
    with FlopCounterMode(display=False) as count: net(torch.empty(1, 3, size, size, device='meta'))
    return count.get_total_flops()


def resident(key='VmRSS'):
    "MB of memory of this process: now (VmRSS) or at most (VmHWM)."
    return int(next(l for l in open('/proc/self/status') if l.startswith(key)).split()[1])/1024


def on_cpu(net, x, a):
    "Seconds and MB of one forward pass (and a backward pass)."
    import torch
    Path('/proc/self/clear_refs').write_text('5')                       # the peak starts again from here
    before,start = resident(),time.process_time()
    with torch.set_grad_enabled(a.backward):
        y = net(x); y = getattr(y, 'last_hidden_state', y)
        if a.backward: y.float().square().mean().backward()
    seconds = time.process_time()-start
    return dict(s=round(seconds, 4), mb=round(resident('VmHWM')-before, 1))


def on_cuda(net, x, a):
    "Milliseconds, MB and share of the measured peak."
    import torch
    from torch import cuda
    def median(f):
        took = []
        for i in range(2+a.repeats):
            start,end = cuda.Event(enable_timing=True),cuda.Event(enable_timing=True)
            start.record(); f(); end.record(); cuda.synchronize(); took.append(start.elapsed_time(end))
        return statistics.median(took[2:])
    def forward():
        with torch.no_grad(): net(x)
    def both():
        y = net(x); getattr(y, 'last_hidden_state', y).float().square().mean().backward()
        for p in net.parameters(): p.grad = None
    m = torch.randn(8192, 8192, device='cuda', dtype=x.dtype)  # stays; memory is counted from later on
    peak = 2*8192**3/median(lambda: torch.mm(m, m))*1e3
    out,work = dict(peak_tflops=round(peak/1e12, 1)),flops(a.sizes[0], a.micro)
    for key,f in [('forward', forward)] + [('backward', both)]*a.backward:
        cuda.empty_cache(); before = cuda.memory_allocated(); cuda.reset_peak_memory_stats()
        ms = median(f)
        out[key] = dict(ms=round(ms, 3), mb=round((cuda.max_memory_allocated()-before)/2**20, 1),
                        share=round(work*(1+2*(key=='backward'))/ms*1e3/peak, 3))
    return out


def child(a):
    "One measurement."
    import torch
    if a.threads: torch.set_num_threads(a.threads)
    dtype = getattr(torch, a.dtype)
    net = build(a.ways[0], a.sizes[0], a.micro).to(a.device, dtype)
    x = torch.randn(1, 3, a.sizes[0], a.sizes[0]).to(a.device, dtype)
    out = (on_cuda if a.device=='cuda' else on_cpu)(net, x, a)
    if not a.ways[0].startswith('hf-') and a.micro|(a.device=='cuda'):
        from vary_nb.model.attention import attention_report
        out['kernels'] = sorted({k for row in attention_report(net, x) for k in row['kernels']})
    return out


def fresh(a, way, size):
    "The same in a process of its own."
    argv = ['--child', '--ways', way, '--sizes', size, '--dtype', a.dtype, '--device', a.device, '--threads', a.threads,
            '--repeats', a.repeats, *['--micro']*a.micro, *['--backward']*a.backward]
    done = subprocess.run([sys.executable, __file__, *map(str, argv)], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, 'OMP_NUM_THREADS': str(a.threads or os.cpu_count()), 'PYTHONWARNINGS': 'ignore'})
    if done.returncode: return dict(error=(done.stderr.strip().split('\n') or ['?'])[-1][:300])
    return json.loads(done.stdout.strip().split('\n')[-1])


def bench(a, size):
    "Medians of each way, and ratios to the first."
    got = {way: [] for way in a.ways}
    for r in range(a.rounds):
        for way in a.ways[r%len(a.ways):]+a.ways[:r%len(a.ways)]:
            got[way].append(fresh(a, way, size)); print(size, way, got[way][-1], file=sys.stderr, flush=True)
    rows = {}
    for way,runs in got.items():
        bad = next((x for x in runs if 'error' in x), None)
        if bad or a.device=='cuda': rows[way] = bad or runs[len(runs)//2]; continue
        rows[way] = dict(s=statistics.median(x['s'] for x in runs), mb=statistics.median(x['mb'] for x in runs))
        first = got[a.ways[0]]
        if not any('error' in x for x in first):
            for key in ('s','mb'):
                name = dict(s='times', mb='memory')[key]
                rows[way][name] = round(statistics.median(x[key]/max(y[key], 1e-9) for x,y in zip(runs, first)), 3)
        if 'kernels' in runs[0]: rows[way]['kernels'] = runs[0]['kernels']
    return dict(size=size, dtype=a.dtype, device=a.device, threads=a.threads, rounds=a.rounds, backward=a.backward,
                gflop=round(flops(size, a.micro)/1e9, 1), ways=rows)


def machine(device):
    "What has to be known to read the numbers."
    import torch, transformers
    git = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, cwd=ROOT)
    info = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    cpu = next((l.split(':')[1].strip() for l in info.split('\n') if l.startswith('model name')), platform.processor())
    flags = info.split('\nflags')[-1].split('\n')[0].split() if info else []
    return dict(commit=git.stdout.strip(), python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__,
                cpu=cpu, cpus=os.cpu_count(), capability=torch.backends.cpu.get_cpu_capability(),
                bf16=sorted({'avx512_bf16','amx_bf16'} & set(flags)), load=round(os.getloadavg()[0], 1),
                gpu=torch.cuda.get_device_name() if device=='cuda' else None)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--ways', nargs='+', help=f"of {', '.join(WAYS+CUDA)}; the first is what the others are compared with")
    ap.add_argument('--sizes', nargs='+', type=int, default=[1024], help='sides of the picture in pixels (1024)')
    ap.add_argument('--dtype', default='float32', help='float32 (default), bfloat16 or float16')
    ap.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    ap.add_argument('--rounds', type=int, default=3, help='fresh processes for each way (3)')
    ap.add_argument('--repeats', type=int, default=20, help='passes measured on CUDA (20)')
    ap.add_argument('--threads', type=int, default=1, help='CPU threads (1)')
    ap.add_argument('--backward', action='store_true', help='with a backward pass')
    ap.add_argument('--micro', action='store_true', help='a tiny network, to try this script')
    ap.add_argument('--out', type=Path, help='append to this file of JSON lines')
    ap.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    a = ap.parse_args()
    a.ways = a.ways or list(WAYS+CUDA if a.device=='cuda' else WAYS)
    if unknown := set(a.ways)-set(WAYS+CUDA): sys.exit(f"--ways {' '.join(sorted(unknown))}: not one of {', '.join(WAYS+CUDA)}")
    if a.child: print(json.dumps(child(a))); return
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True); line = json.dumps(machine(a.device))+'\n'
        with a.out.open('a') as f: f.write(line)
    for size in a.sizes:
        line = json.dumps(bench(a, size)); print(line, flush=True)
        if a.out:
            with a.out.open('a') as f: f.write(line+'\n')


if __name__=='__main__': main()
