"""How many pages a CPU-second? Ours against pdf2image + PyMuPDF, on the PDF files you name.

    python tests/bench_pages.py my.pdf other.pdf
    python tests/bench_pages.py --label "36 real documents" --out runs/bench_pages.jsonl folder_of_pdfs

Three ways to a picture and its text, in turns on the same pages at the same resolution:
paper:  pdf2image (poppler), one call a page, and PyMuPDF's plain text;
raw:    PyMuPDF alone, in one process: picture and plain text;
engine: `PdfPages`: picture, trusted lines in reading order, a cell for every glyph, all checks.
Processor time of this process and of its children is counted, not time on the wall. Also printed: the agreement of
the engine's characters with those that PDFium reports (precision, recall over trusted lines; over pages with text).
The last line of the output is JSON; with --out it is appended to that file, after a first line about the machine."""
from importlib.util import find_spec
import argparse, json, os, platform, resource, statistics, subprocess, sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import pymupdf

from vary_nb.core import BadInput, Skip
from vary_nb.data import documents, pdf
from vary_nb.data.corpus import list_files


def cpu():
    "Seconds of processor time so far, with finished children."
    return sum(r.ru_utime+r.ru_stime for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def paper(path, pages, dpi):
    "The paper's way: a process for every page."
    from pdf2image import convert_from_path
    doc = pymupdf.open(path)
    for k in pages: convert_from_path(path, dpi=dpi, first_page=k+1, last_page=k+1)[0].load(), doc[k].get_text()


def raw(path, pages, dpi):
    "The same products without leaving the process."
    doc = pymupdf.open(path)
    for k in pages: pdf.page_pixels(doc[k], dpi=dpi), doc[k].get_text()


def engine(path, pages, dpi):
    "Everything that training needs; nothing is remembered from an earlier round."
    documents.read_page.cache_clear(); documents._document.cache_clear()
    e = documents.PdfPages(path, mode='page', dpi=dpi)
    for k in pages:
        try: e[k]
        except Skip: pass


def agreement(path, pages):
    "(precision, recall) against PDFium for each page with text."
    import pypdfium2
    hyphens = str.maketrans('\x02\ufffe', '--')                 # what PDFium makes of a hyphen at the end of a line
    bag = lambda t: Counter(x for c in t.translate(hyphens) for x in pdf.letters(c) if x.isprintable() and not x.isspace())
    doc,theirs,rows = pdf.open_pdf(path),pypdfium2.PdfDocument(path),[]
    for k in pages:
        a = bag(''.join(l.text for l in pdf.page_lines(pdf.upright(doc[k])))); b = bag(theirs[k].get_textpage().get_text_bounded())
        if a and b: rows.append(((a & b).total()/a.total(), (a & b).total()/b.total()))
    return rows


def bench(files, limit, dpi, rounds):
    "Pages a CPU-second of each way: the median over rounds."
    files = [str(f) for f in files]; jobs = []
    for f in files:
        try: n = pdf.open_pdf(f).page_count
        except BadInput: continue
        jobs.append((f, sorted({round(k*(n-1)/max(1, min(limit, n)-1)) for k in range(min(limit, n))})))
    count = sum(len(p) for _,p in jobs); speed = {f.__name__: [] for f in (paper, raw, engine)}
    for _ in range(rounds):
        for f in (paper, raw, engine):
            start = cpu()
            for job in jobs: f(*job, dpi)
            speed[f.__name__].append(count/(cpu()-start))
    speed = {k: statistics.median(v) for k,v in speed.items()}
    rows = [r for job in jobs for r in agreement(*job)]
    return dict(documents=len(jobs), pages=count, dpi=dpi, rounds=rounds, **{f'{k}, pages/CPU-s': round(v, 1) for k,v in speed.items()},
                **{f'{k} / paper': round(speed[k]/speed['paper'], 2) for k in ('raw','engine')},
                **{f'PDFium {n}, {m.__name__}': round(m(r[i] for r in rows), 4) for i,n in enumerate(('precision','recall'))
                   for m in (statistics.mean, statistics.median) if rows})


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
    ap.add_argument('--dpi', type=float, default=88, help='resolution; 88 gives A4 a long side of 1029 pixels (88)')
    ap.add_argument('--rounds', type=int, default=3, help='the median of so many rounds is taken (3)')
    ap.add_argument('--label', default='', help='what was measured, for the log')
    ap.add_argument('--out', type=Path, help='append to this file of JSON lines')
    a = ap.parse_args()
    try:
        if not find_spec('pdf2image'): raise OSError('pdf2image')
        subprocess.run(['pdftoppm', '-v'], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError): sys.exit('the paper\'s way needs pdf2image (pip) and poppler (apt install poppler-utils)')
    result = dict(what=a.label or f'{len(a.pdfs)} files', **bench(list_files(a.pdfs, ('.pdf',)), a.pages, a.dpi, a.rounds))
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True); new = not a.out.exists()
        with a.out.open('a') as f: f.write((json.dumps(machine())+'\n')*new+json.dumps(result)+'\n')
    print(json.dumps(result))


if __name__=='__main__': main()
