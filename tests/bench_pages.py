"""How much processor time does a page cost? Ours against pdf2image + PyMuPDF + PNG, on the PDF files you name.

    python tests/bench_pages.py my.pdf other.pdf
    python tests/bench_pages.py --label "36 real documents" --out runs/bench_pages.jsonl folder_of_pdfs

Each way makes a picture of 1024 pixels on the longer side and a text, of the same pages, in turns:
paper, raw:   pdf2image (poppler), one call a page, and PyMuPDF's plain text; no file;
paper:        the same, written as PNG and text;
raw:          PyMuPDF alone, in one process: picture and plain text; no file;
plain, jpeg:  the same, written as JPEG (quality 90) and text;
plain, webp:  the same as lossless WebP;
pages, jpeg:  `PdfPages(glyphs=False)`: trusted lines in reading order, all checks; written as JPEG and text;
pages, webp:  the same as lossless WebP;
glyphs, jpeg: `PdfPages` with a cell for every glyph.
Counted is the processor time of this process and of its children, not time on the wall; opening a document is part of
it. Only pages that `PdfPages` accepts take part. `times` is the speed relative to the paper's way (with or without a
file, as the way itself): the median over the rounds, in each of which both were measured.
The last line of the output is JSON; with --out it is appended to that file, after a first line about the machine."""
import argparse, json, os, platform, resource, statistics, subprocess, sys, tempfile, warnings
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import pymupdf

from vary_nb.core import Skip, encode_image
from vary_nb.data import documents, pdf

SIDE = 1024


def cpu():
    "Seconds of processor time so far, with finished children."
    return sum(r.ru_utime+r.ru_stime for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def store(out, picture, text):
    "Two files, as every way that stores a page writes them."
    (out/'page.image').write_bytes(picture); (out/'page.txt').write_text(text, encoding='utf8')


def paper(path, pages, out=None):
    "The paper's way: a process for every page."
    from pdf2image import convert_from_path
    doc = pymupdf.open(path)
    for k in pages:
        im = convert_from_path(path, size=SIDE, first_page=k+1, last_page=k+1)[0]; im.load(); text = doc[k].get_text()
        if out: store(out, encode_image(im, 'png'), text)


def plain(path, pages, out=None, fmt='jpeg'):
    "The same products without leaving the process."
    doc = pymupdf.open(path)
    for k in pages:
        page = doc[k]; text = page.get_text(); im = pdf.page_pixels(page, zoom=SIDE/max(page.rect.width, page.rect.height))
        if out: store(out, encode_image(im, fmt), text)


class Engine:
    "What a data set is built with; nothing is remembered from an earlier round."
    def __init__(self, files, **kw):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore'); self.engine = documents.PdfPages(files, side=SIDE, **kw)
        self.at = {self.engine.where(i): i for i in range(len(self.engine))}
    def accepts(self, path, k):
        try: return bool(self.engine[self.at[path, k]])
        except Skip: return False
    def __call__(self, path, pages, out=None, fmt='jpeg'):
        documents.read_page.cache_clear(); documents._OPEN.clear()
        for k in pages:
            s = self.engine[self.at[path, k]]
            if out: store(out, encode_image(s.images[0], fmt), s.text)


def bench(files, limit, rounds):
    "Milliseconds a page of each way, and the median ratio to the paper's."
    quick,full = Engine(files, glyphs=False),Engine(files); jobs = []
    for f,n in zip(quick.engine.docs, (quick.engine.table[:,0][:,None]==range(len(quick.engine.docs))).sum(0).tolist()):
        some = sorted({round(k*(n-1)/max(1, min(limit, n)-1)) for k in range(min(limit, n))})
        jobs.append((f, [k for k in some if quick.accepts(f, k)]))
    jobs = [j for j in jobs if j[1]]; count = sum(len(p) for _,p in jobs); spent = defaultdict(list)
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp)
        ways = {'paper, raw': lambda *j: paper(*j), 'paper': lambda *j: paper(*j, out), 'raw': lambda *j: plain(*j),
                'plain, jpeg': lambda *j: plain(*j, out), 'plain, webp': lambda *j: plain(*j, out, 'webp'),
                'pages, jpeg': lambda *j: quick(*j, out), 'pages, webp': lambda *j: quick(*j, out, 'webp'), 'glyphs, jpeg': lambda *j: full(*j, out)}
        for r in range(rounds):
            total = defaultdict(float)
            for job in jobs:                                               # all ways of a document close together in time
                for name in list(ways)[r%len(ways):]+list(ways)[:r%len(ways)]:
                    start = cpu(); ways[name](*job); total[name] += cpu()-start
            for name in ways: spent[name].append(1000*total[name]/count)
    base = lambda name: spent['paper, raw' if 'raw' in name else 'paper']
    rows = {n: dict(ms=round(statistics.median(v), 1), times=round(statistics.median(b/x for b,x in zip(base(n), v)), 2))
            for n,v in spent.items()}
    return dict(documents=len(jobs), pages=count, side=SIDE, rounds=rounds, ways=rows)


def machine():
    "What has to be known to read the numbers."
    git = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent)
    poppler = subprocess.run(['pdftoppm', '-v'], capture_output=True, text=True).stderr.split('\n')[0]
    return dict(commit=git.stdout.strip(), python=platform.python_version(), pymupdf=pymupdf.__version__, poppler=poppler,
                machine=platform.machine(), cpus=os.cpu_count())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('pdfs', nargs='+', help='PDF files or folders')
    ap.add_argument('--pages', type=int, default=10, help='pages of each document at most, spread over it (10)')
    ap.add_argument('--rounds', type=int, default=5, help='the median of so many rounds is taken (5)')
    ap.add_argument('--label', default='', help='what was measured, for the log')
    ap.add_argument('--out', type=Path, help='append to this file of JSON lines')
    a = ap.parse_args()
    try:
        if not find_spec('pdf2image'): raise OSError('pdf2image')
        subprocess.run(['pdftoppm', '-v'], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError): sys.exit('the paper\'s way needs pdf2image (pip) and poppler (apt install poppler-utils)')
    result = dict(what=a.label or f'{len(a.pdfs)} files', **bench(a.pdfs, a.pages, a.rounds))
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True); new = not a.out.exists()
        with a.out.open('a') as f: f.write((json.dumps(machine())+'\n')*new+json.dumps(result)+'\n')
    print(json.dumps(result))


if __name__=='__main__': main()
