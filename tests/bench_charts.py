"""How many charts a CPU-second? Ours against the ways that libraries offer, on the same charts.

    python tests/bench_charts.py --charts 40 --rounds 3 --out runs/bench_charts.jsonl

matplotlib:  `Matplotlib.draw` + JPEG against `subplots` + `savefig` (PNG, as `savefig` does it) of the same charts;
pyecharts:   `ECharts.draw` + JPEG against a headless Chromium that stays open (`get_screenshot_as_png`, and its fastest way, `getDataURL`),
             and against one that is started for every picture (as pyecharts' own snapshot does), on the same options.
Processor time of this process and of all its children is counted, not time on the wall; the ways take turns.
The last line of the output is JSON; with --out it is appended to that file, after a first line about the machine."""
import argparse, base64, io, json, os, platform, shutil, statistics, subprocess, sys, tempfile
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


PAGE = """<!doctype html><meta charset=utf8><style>FACES body{{margin:0;background:#fff}} #c{{width:100px;height:100px}}</style>
<div id=c></div><script src="{js}"></script><script>
function draw(option, w, h) {{ var d = document.getElementById('c'), old = echarts.getInstanceByDom(d); if (old) old.dispose();
  d.style.width = w+'px'; d.style.height = h+'px'; option.animation = false;
  var c = echarts.init(d, null, {{renderer:'canvas', width:w, height:h, devicePixelRatio:1}}); c.setOption(option); c.getZr().flush(); return c; }}
</script>"""


class Chromium:
    "A headless browser that stays open on one page, with our fonts and the same echarts."
    def __init__(self, fonts):
        from selenium import webdriver
        from vary_nb.data.echarts import find_echarts
        self.dir = tempfile.TemporaryDirectory(); page = Path(self.dir.name)/'page.html'
        faces = ''.join(f"@font-face{{{{font-family:'{f.name}';src:url('file://{f.path}')}}}} " for f in fonts)
        self.html = PAGE.replace('FACES', faces).format(js=find_echarts().as_uri()); page.write_text(self.html)
        self.flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--no-first-run', '--allow-file-access-from-files',
            '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--force-device-scale-factor=1', '--disable-quic']
        def start():
            o = webdriver.ChromeOptions(); o.binary_location = shutil.which('chromium') or shutil.which('google-chrome')
            for f in self.flags: o.add_argument(f)
            return webdriver.Chrome(o, webdriver.ChromeService(shutil.which('chromedriver')))
        self.start = start; self.driver = start(); self.driver.set_window_size(1200, 1000); self.driver.get(page.as_uri())
        self.driver.execute_async_script('var done = arguments[0]; Promise.all([...document.fonts].map(f => f.load())).then(() => done());')

    def draw(self, option, size): self.driver.execute_script(f'window.c = draw({option}, {size[1]}, {size[0]})')
    def screenshot(self, option, size): self.draw(option, size); return self.driver.get_screenshot_as_png()
    def data_url(self, option, size):
        url = self.driver.execute_script(f"return draw({option}, {size[1]}, {size[0]}).getDataURL({{type:'png', pixelRatio:1, excludeComponents:['toolbox']}})")
        return base64.b64decode(url.partition(',')[2])

    def cold(self, option, size):
        "A browser of its own for one picture, by selenium, as pyecharts' `make_snapshot` does it (without its wait of two seconds)."
        page = Path(self.dir.name)/'cold.html'; page.write_text(self.html+f'<script>window.c = draw({option}, {size[1]}, {size[0]})</script>')
        driver = self.start(); driver.get(page.as_uri())
        try: return driver.execute_script("return window.c.getDataURL({type:'png', pixelRatio:1})")
        finally: driver.quit()

    def close(self): self.driver.quit(); self.dir.cleanup()


def ssim(a, b):
    "Mean structural similarity of two pictures (grey, windows of 11 pixels with a Gaussian of 1.5), after Wang et al. 2004."
    a,b = (np.asarray(x.convert('L'), np.float64) for x in (a,b)); t = np.arange(-5, 6); g = np.exp(-t*t/4.5); g /= g.sum()
    def blur(x):
        for axis in (0,1): x = np.apply_along_axis(lambda r: np.convolve(r, g, 'valid'), axis, x)
        return x
    ma,mb = blur(a),blur(b); va,vb,ab = blur(a*a)-ma*ma,blur(b*b)-mb*mb,blur(a*b)-ma*mb; c1,c2 = (.01*255)**2,(.03*255)**2
    return float((((2*ma*mb+c1)*(2*ab+c2))/((ma*ma+mb*mb+c1)*(va+vb+c2))).mean())


def bench_pyecharts(n, rounds, cold, sheet=None):
    "Our way and Chromium's, the same options; how similar the pictures are."
    from vary_nb.data.charts import renderer
    from vary_nb.data.echarts import chart
    specs = charts('pyecharts', n); r = renderer('pyecharts'); jobs = [(chart(s, r.font(s.style.font or cjk_font())).dump_options(), s.style.size) for s in specs]
    fonts = {s.style.font or cjk_font() for s in specs}; web = Chromium(fonts)
    try:
        ways = dict(ours=lambda j: encode_image(r.picture(*j), 'jpeg'), screenshot=lambda j: web.screenshot(*j), getDataURL=lambda j: web.data_url(*j))
        for f in ways.values(): f(jobs[0])
        v = turns(ways, jobs, rounds); c = turns(dict(cold=lambda j: web.cold(*j)), jobs[:cold], 1); v |= c
        theirs = [Image.open(io.BytesIO(web.data_url(*j))).convert('RGB') for j in jobs]; mine = [r.picture(*j) for j in jobs]
        alike = [ssim(a, b) for a,b in zip(theirs, mine)]
    finally: web.close(); r.close()
    if sheet:
        from vary_nb.core import contact_sheet
        pick = sorted(range(n), key=lambda k: alike[k])[::max(1, n//4)][:4]+[int(np.argmax(alike))]
        contact_sheet([im for k in pick for im in (theirs[k], mine[k])], [t for k in pick for t in ('Chromium', f'ours, SSIM {alike[k]:.3f}')], cols=2, cell=(420,300)).quantize(64).save(sheet)
    rows = dict(what='pyecharts', charts=n, rounds=rounds, cold_charts=cold, **{f'{k}, charts/CPU-s': x for k,x in v.items()})
    for k in ('screenshot','getDataURL','cold'): rows[f'ours / {k}'] = round(v['ours']/v[k], 2)
    return {**rows, 'SSIM mean':round(statistics.mean(alike), 4), 'SSIM least':round(min(alike), 4), 'languages':{l: sum(s.lang==l for s in specs) for l in ('en','zh')}, 'each':[round(a, 3) for a in alike]}


def machine():
    "What has to be known to read the numbers."
    from importlib.metadata import version
    import matplotlib, pyecharts, pymupdf
    git = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent)
    chrome = subprocess.run(['chromium', '--version'], capture_output=True, text=True).stdout.strip()
    return dict(commit=git.stdout.strip(), python=platform.python_version(), machine=platform.machine(), cpus=os.cpu_count(), load=os.getloadavg()[0], chromium=chrome,
                matplotlib=matplotlib.__version__, pyecharts=pyecharts.__version__, pymupdf=pymupdf.__version__, mini_racer=version('mini-racer'))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--charts', type=int, default=40); ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--cold', type=int, default=5, help='charts for which a browser is started (5)')
    ap.add_argument('--sheet', type=Path, help='write pairs of pictures, Chromium and ours, as PNG')
    ap.add_argument('--only', choices=('matplotlib','pyecharts')); ap.add_argument('--out', type=Path, help='append to this file of JSON lines')
    a = ap.parse_args()
    from vary_nb.data.echarts import setup_echarts
    setup_echarts(); rows = [machine()]
    if a.only!='pyecharts': rows.append(bench_matplotlib(a.charts, a.rounds)); print(json.dumps(rows[-1]))
    if a.only!='matplotlib': rows.append(bench_pyecharts(a.charts, a.rounds, a.cold, a.sheet)); print(json.dumps(rows[-1]))
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True)
        with a.out.open('a') as f: f.write(''.join(json.dumps(r)+'\n' for r in rows))


if __name__=='__main__': main()
