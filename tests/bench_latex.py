"""What does a page typeset from LaTeX cost, and how much of real sources is kept? Needs TeX (make system).

    python tests/bench_latex.py                              speed, on text of our own
    python tests/bench_latex.py --rounds 3 --out runs/bench_latex.jsonl
    python tests/bench_latex.py --lang en --sources folder --out runs/latex_pages.jsonl     what is kept of sources

Speed: the same pages twice, in turns. Plain: one run of pdflatex (or xelatex) a page, with the whole preamble, as the
paper's way needs it; no marks, no truth, no check. Typeset: one run for all pages, with marks; ours: the same, and the markdown of every
page and its comparison with the PDF. Counted is the processor time of this process and its children. `times` and
`times_typeset` are medians over the rounds of plain/ours and plain/typeset. Formats are made before (once for a machine). Pictures are drawn by neither.

Sources: all papers of a language through every template in turn. Counted are files that give blocks, blocks that TeX
refused, pages kept, mean recall and precision of all pages that have been compared, and every reason."""
import argparse, json, os, platform, resource, statistics, subprocess, sys, tempfile, warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np

from vary_nb.core import Skip, rng
from vary_nb.data import latexpages, pdf, typeset

WAYS = {'en': ('article','koma','ieee','acm'), 'zh': ('ctex','ctex-2','cjk-song')}


def cpu():
    "Seconds of processor time so far, with finished children."
    return sum(r.ru_utime+r.ru_stime for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def ours(blocks, t, pages):
    "One run, and the checked truth of every page: (run, pages kept)."
    run = typeset.typeset(blocks, t, pages); doc = pdf.open_pdf('run', run.pdf); kept = 0
    for k in range(min(pages, len(run.pages))):
        try: latexpages.page_truth(run, k, doc[k]); kept += 1
        except Skip: pass
    return run, kept


def plain(blocks, t):
    "One page by a run of its own."
    quiet = r'\def\VNm#1{}\def\VNs#1#2#3{}\let\VNo\relax'; cjk = t.lang=='zh' and t.engine=='pdflatex'
    head,tail = (rf'\begin{{CJK*}}{{UTF8}}{{{t.font}}}', r'\clearpage\end{CJK*}') if cjk else ('', '')
    with tempfile.TemporaryDirectory() as d:
        lines = [typeset.body(b, 1, t.lang) for b in blocks]
        Path(d, 't.tex').write_text('\n'.join([typeset.preamble(t)+quiet+r'\begin{document}'+head, *lines, tail+r'\end{document}']))
        end = typeset.limited([t.engine, '-interaction=batchmode', '-no-shell-escape', 't.tex'], d)
    assert end==0, end


def speed(name, pages, rounds, sample):
    "Milliseconds a page of both ways."
    t = typeset.TEMPLATES[name]; blocks = [b for k in range(pages) for b in latexpages.own_blocks(rng(0, 'bench', k), t.lang, 30)]
    if t.engine=='pdflatex': typeset.make_format(t)
    run,_ = ours(blocks, t, pages); spent = []
    some = [typeset.parts(run, run.pages[k][:,0]) for k in np.linspace(0, pages-1, sample).astype(int)]
    last = run.starts[int(np.searchsorted(run.starts, run.pages[pages-1][-1,0]*(1 if run.pages[pages-1][-1,0]>0 else -1), 'right'))]
    blocks = blocks[:int(np.searchsorted(run.starts, last))+4]                       # what the pages need, and a little more
    for _ in range(rounds):
        a = cpu(); typeset.typeset(blocks, t, pages); b = cpu(); _,kept = ours(blocks, t, pages); c = cpu()
        for page in some: plain(page, t)
        spent.append((1000*(b-a)/pages, 1000*(c-b)/pages, 1000*(cpu()-c)/len(some)))
    bare,mine,theirs = (statistics.median(s) for s in zip(*spent))
    return dict(template=name, engine=t.engine, pages=pages, kept=kept, rounds=rounds, plain_ms=round(theirs, 1), typeset_ms=round(bare, 2),
                ours_ms=round(mine, 2), words_a_page=round(sum(sum(m[:,0]>0) for m in run.pages[:pages])/pages),
                pages_per_cpu_second=round(1000/mine), times_typeset=round(statistics.median(p/b for b,_,p in spent), 1),
                times=round(statistics.median(p/m for _,m,p in spent), 1))


def real(sources, lang, pages, seed):
    "What is kept of sources, template by template."
    why,dropped,scores,slots,kept = Counter(),Counter(),[],0,0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore'); e = latexpages.LatexPages(sources, lang=lang, pages=pages, seed=seed)
    files = {a: latexpages.paper(a) for a in e.docs}; read = sum(bool(b) for l,b in files.values() if l)
    unread = Counter(str(b) for l,b in files.values() if not l); blocks_in,per = 0,{}
    for k,name in enumerate(e.templates):
        e.templates = [name]
        try: run,doc,_,_ = latexpages.made(e, k)
        except Skip as s: dropped[s.reason] += 1; continue
        why.update(reason for _,reason,_ in run.left_out); blocks_in += len(run.blocks)+len(run.left_out); got = []
        for j in range(min(pages, len(run.pages))):
            slots += 1
            try: _,r,p = latexpages.page_truth(run, j, doc[j], least=0)
            except Skip as s: dropped[s.reason] += 1; continue
            scores.append((r, p))
            if min(r, p)>=.98: got.append(j)
            else: dropped['words lost' if r<.98 else 'words too many'] += 1
        kept += len(got); per[name] = (len(got), min(pages, len(run.pages)), run.runs); e._runs.clear()
        print(name, per[name], dict(why), dict(dropped), file=sys.stderr)
    recall,precision = np.mean(scores, 0).tolist()
    return dict(files=len(files), give_blocks=read, unread=dict(unread), blocks=blocks_in, blocks_left_out=dict(why), pages=slots, kept=kept,
                kept_share=round(kept/slots, 4), recall=round(recall, 4), precision=round(precision, 4), dropped=dict(dropped), templates=per)


def machine():
    "What has to be known to read the numbers."
    git = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent)
    return dict(commit=git.stdout.strip(), python=platform.python_version(), tex=typeset.tex_version(), xetex=typeset.tex_version('xelatex'),
                pymupdf=pdf.pymupdf.__version__, machine=platform.machine(), cpus=os.cpu_count())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--lang', default='en,zh', help='en, zh (both)')
    ap.add_argument('--pages', type=int, default=128, help='pages of one run (128)')
    ap.add_argument('--rounds', type=int, default=3, help='the median of so many rounds is taken (3)')
    ap.add_argument('--sample', type=int, default=8, help='so many of the pages are typeset the plain way (8)')
    ap.add_argument('--sources', nargs='*', help='instead: what is kept of these sources')
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--label', default='', help='what was measured, for the log')
    ap.add_argument('--out', type=Path, help='append to this file of JSON lines')
    a = ap.parse_args()
    def say(r):
        print(json.dumps(r, ensure_ascii=False), flush=True)
        if not a.out: return
        a.out.parent.mkdir(parents=True, exist_ok=True); new = not a.out.exists()
        with a.out.open('a') as f: f.writelines(json.dumps(x, ensure_ascii=False)+'\n' for x in [machine()]*new+[r])
    for lang in a.lang.split(','):
        if a.sources: say(dict(what=a.label or 'sources', lang=lang, **real(a.sources, lang, a.pages, a.seed)))
        else:
            rows = []
            for n in WAYS[lang]: rows.append(speed(n, a.pages, a.rounds, a.sample)); say(dict(what=a.label or 'own text', lang=lang, **rows[-1]))
            total = {k: sum(r[k] for r in rows) for k in ('plain_ms','typeset_ms','ours_ms')}
            say(dict(what='as many pages of each', lang=lang, templates=WAYS[lang], times_typeset=round(total['plain_ms']/total['typeset_ms'], 1),
                     times=round(total['plain_ms']/total['ours_ms'], 1)))


if __name__=='__main__': main()
