"""How many charts a CPU-second? Ours against the ways that libraries offer, on the same charts.

    python tests/bench_charts.py --charts 40 --rounds 3 --out runs/bench_charts.jsonl

matplotlib:  `Matplotlib.draw` + JPEG against `subplots` + `savefig` (PNG, as `savefig` does it) of the same charts;
pyecharts:   `ECharts.draw` + JPEG against a headless Chromium that stays open (`get_screenshot_as_png`, and its fastest way, `getDataURL`),
             and against one that is started for every picture (as pyecharts' own snapshot does), on the same options.
Processor time of this process and of all its children is counted, not time on the wall; the ways take turns.
The last line of the output is JSON; with --out it is appended to that file, after a first line about the machine."""
import argparse, base64, io, json, os, platform, statistics, subprocess, sys, tempfile, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
from PIL import Image

from vary_nb.core import Skip, encode_image
from vary_nb.data.charts import PALETTES, Charts, Matplotlib, attempts, pie_texts, said, verify
from vary_nb.data.corpus import cjk_font


def cpu():
    "Seconds of processor time so far of this process and its living and finished descendants."
    total,todo = sum(os.times()[:4]),[os.getpid()]
    while todo:
        p = todo.pop()
        try:
            if p!=os.getpid():
                f = Path(f'/proc/{p}/stat').read_text().rpartition(')')[2].split(); total += sum(map(int, f[11:15]))/os.sysconf('SC_CLK_TCK')
            for t in Path(f'/proc/{p}/task').iterdir(): todo += map(int, (t/'children').read_text().split())
        except (FileNotFoundError, ProcessLookupError): pass # it ended meanwhile
    return total


def usual(spec):
    "A chart by `subplots` and `savefig`, as the manual shows it: the same data, texts and size."
    import matplotlib; matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib import font_manager as fm
    st = spec.style; (h,w),font = st.size,(st.font or cjk_font()).path; back,ink,grid,colors = PALETTES[st.palette]
    if not any(f.fname==font for f in fm.fontManager.ttflist): fm.fontManager.addfont(font)
    with plt.rc_context({'font.family':fm.FontProperties(fname=font).get_name(), 'font.size':st.px*.9, 'text.color':ink, 'axes.labelcolor':ink,
                         'figure.facecolor':back, 'axes.facecolor':back, 'xtick.color':ink, 'ytick.color':ink, 'text.parse_math':False}):
        fig,ax = plt.subplots(figsize=(w/72, h/72), dpi=72); n = np.arange(len(spec.categories)); k = len(spec.series); pair = spec.form=='composite'
        names = [s['name'] for s in spec.series]; rows = [s['values'] for s in spec.series]; texts = spec.printed; base = np.zeros(len(n))
        if spec.kind=='pie':
            ax.pie(rows[0], labels=pie_texts(spec) if st.beside else texts[0], colors=colors[:len(n)], startangle=90, counterclock=False)
            if not st.beside: ax.legend(spec.categories)
        for j in range(0 if spec.kind=='pie' else k-pair):
            if spec.kind=='line':
                ax.plot(n, rows[j], color=colors[j], label=names[j], marker='o' if st.marker else None)
                if spec.form=='area': ax.fill_between(n, rows[j], color=colors[j], alpha=.35)
                if st.shown: [ax.annotate(t, (x,y), ha='center', va='bottom') for x,y,t in zip(n, rows[j], texts[j])]
                continue
            bar,x = (ax.barh if spec.form=='horizontal' else ax.bar),n if spec.form=='stacked' else n+st.thick*(j-(k-pair-1)/2)/(k-pair)
            made = bar(x, rows[j], st.thick/(1 if spec.form=='stacked' else k-pair), **(dict(bottom=base) if spec.form=='stacked' else {}), color=colors[j], label=names[j])
            if spec.form=='stacked': base = base+rows[j]
            if st.shown: ax.bar_label(made, texts[j], label_type='center' if spec.form=='stacked' else 'edge')
        if pair:
            right = ax.twinx(); right.plot(n, rows[-1], color=colors[k-1], label=names[-1], marker='o'); right.set_ylabel(spec.y2)
            if st.shown: [right.annotate(t, (x,y), ha='center', va='bottom') for x,y,t in zip(n, rows[-1], texts[-1])]
        if spec.kind!='pie':
            (ax.set_yticks if spec.form=='horizontal' else ax.set_xticks)(n, spec.categories); ax.set(xlabel=spec.x, ylabel=spec.y)
            if st.grid!='none': ax.grid(axis='x' if spec.form=='horizontal' else 'y', color=grid)
            if k>1: ax.legend()
        ax.set_title(spec.title); fig.text(.02, .02, said(spec)); b = io.BytesIO(); fig.savefig(b, format='png'); plt.close(fig)
    return b.getvalue()


def ours(renderer, spec):
    "Layout, drawing, check and JPEG."
    im,drawn = renderer.draw(spec); verify(spec, drawn); return encode_image(im, 'jpeg')


def charts(library, n):
    "The first n charts of the engine that fit at once, half of them Chinese."
    out,engine,i = [],Charts(library, 'both', seed=1),0
    from vary_nb.data.charts import renderer
    while len(out)<n:
        spec = next(attempts(engine.spec(i)[0])); i += 1
        try: ours(renderer(library), spec)
        except Skip: continue
        if spec.lang==('en','zh')[len(out)%2]: out.append(spec)
    return out


def turns(ways, jobs, rounds):
    "Charts a CPU-second of each way: the median over rounds, in turns."
    speed = {name: [] for name in ways}
    for _ in range(rounds):
        for name,f in ways.items():
            start = cpu()
            for job in jobs[name] if isinstance(jobs, dict) else jobs: f(job)
            speed[name].append(len(jobs[name] if isinstance(jobs, dict) else jobs)/max(cpu()-start, 1e-9))
    return {k: round(statistics.median(v), 2) for k,v in speed.items()}


def bench_matplotlib(n, rounds):
    "Our way and the usual one."
    specs,page = charts('matplotlib', n),Matplotlib(); usual(specs[0])
    v = turns(dict(ours=lambda s: ours(page, s), savefig=usual), specs, rounds)
    return dict(what='matplotlib', charts=n, rounds=rounds, **{f'{k}, charts/CPU-s': x for k,x in v.items()}, ratio=round(v['ours']/v['savefig'], 2))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--charts', type=int, default=40); ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--out', type=Path, help='append to this file of JSON lines')
    a = ap.parse_args()
    rows = [bench_matplotlib(a.charts, a.rounds)]
    for r in rows: print(json.dumps(r))


if __name__=='__main__': main()
