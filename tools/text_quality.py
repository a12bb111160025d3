"""How good is the text of PDF pages? Ours against an independent extraction, pypdfium2's, page by page.

    python tools/text_quality.py folder_of_pdfs [more ...] --out runs/text_quality.json
    python tools/text_quality.py folder_of_pdfs --worst 10 --show          # look at the worst ten; prints document text

`--pages` pages (200) are sampled among those that `PdfPages` accepts, the same ones for the same files and `--seed`.
Compared are characters without white space, after the same rule for ligatures, radicals and hyphens on both sides.

similarity: 2*M/T, where M is the number of characters in the matching pieces of both texts and T the sum of their
            lengths (rapidfuzz's normalised InDel similarity): 1 is the same characters in the same order;
bag:        the same without order, so what `similarity` lacks and `bag` has is reading order;
recall:     the share of PDFium's characters that we have; precision: the share of ours that PDFium has.
PDFium's text of lines that we do not trust (and paint over) is missing from ours on purpose; `untrusted` is their
share of a page's characters. The JSON that is written has numbers alone, neither text nor names of the documents."""
import argparse, json, statistics, sys, warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import pypdfium2
from rapidfuzz.distance import Indel

from vary_nb.core import Skip, rng
from vary_nb.data import documents, pdf

HYPHENS = str.maketrans('\x02\ufffe', '--')                 # what PDFium makes of a hyphen at the end of a line


def plain(text):
    "Characters as both sides would write them, without white space."
    return ''.join(x for c in text.translate(HYPHENS) for x in pdf.letters(c) if x.isprintable() and not x.isspace())


def compare(path, k):
    "Numbers about one page, and the two texts; None if `PdfPages` would skip it."
    with pdf.damage(path): turn,lines,why = documents.read_page(path, k)
    if why: return None
    a = plain(''.join(l.text for l in lines if not l.why))
    page = pypdfium2.PdfDocument(path)[k]; b = plain(page.get_textpage().get_text_bounded())
    x,y = Counter(a),Counter(b); both = (x & y).total()
    row = dict(file=Path(path).name, page=k+1, chars=len(a), similarity=round(Indel.normalized_similarity(a, b), 4),
               bag=round(2*both/max(1, len(a)+len(b)), 4), precision=round(both/max(1, len(a)), 4), recall=round(both/max(1, len(b)), 4),
               untrusted=round(sum(len(plain(l.text)) for l in lines if l.why)/max(1, sum(len(plain(l.text)) for l in lines)), 4))
    return row, a, b


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('pdfs', nargs='+', help='PDF files or folders')
    ap.add_argument('--pages', type=int, default=200); ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--worst', type=int, default=10); ap.add_argument('--show', action='store_true', help='print where the worst differ')
    ap.add_argument('--out', type=Path, help='write the numbers to this JSON file')
    a = ap.parse_args()
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); engine = documents.PdfPages(a.pdfs)
    rows,skips = [],Counter()
    for i in rng(a.seed, 'text quality').permutation(len(engine)).tolist():
        if len(rows)==a.pages: break
        path,k = engine.where(i)
        try: r = compare(path, k)
        except Skip as e: skips[e.reason] += 1; continue
        if r is None: skips[documents.read_page(path, k)[2][0]] += 1
        else: rows.append(r)
    rows.sort(key=lambda r: r[0]['similarity']); value = lambda key: [r[0][key] for r in rows]
    numbers = {key: dict(median=statistics.median(value(key)), mean=round(statistics.mean(value(key)), 4), lowest=min(value(key)))
               for key in ('similarity','bag','precision','recall')}
    result = dict(pages=len(rows), documents=len({r[0]['file'] for r in rows}), seed=a.seed, skipped=dict(skips),
                  at_least={str(t): sum(v>=t for v in value('similarity')) for t in (.9,.95,.98,.99,1)}, **numbers, worst=[{k: v for k,v in r[0].items() if k not in ('file','page')} for r in rows[:a.worst]])
    if a.show:
        for row,x,y in rows[:a.worst]:
            print(row)
            for op in Indel.opcodes(x, y):
                if op.tag!='equal' and max(op.src_end-op.src_start, op.dest_end-op.dest_start)>1:
                    print(f'   {op.tag:8s} ours {x[op.src_start:op.src_end][:70]!r} | PDFium {y[op.dest_start:op.dest_end][:70]!r}')
    if a.out: a.out.parent.mkdir(parents=True, exist_ok=True); a.out.write_text(json.dumps(result, indent=1)+'\n')
    print(json.dumps({k: v for k,v in result.items() if k!='worst'}))


if __name__=='__main__': main()
