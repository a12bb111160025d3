"""Read blocks of lines of PDFs in one look, and print the character error rate: the numbers of runs/pointing-eval.jsonl.

    python tools/one_look.py --en pdfs_en --zh pdfs_zh nano out/stage3/final

Text 14-18 px high; 1 and 2 lines in 8 tokens of width, 2 and 4 in 24; --n samples each, or as many as 400 draws give."""
import argparse, json, warnings

from vary_nb.core import Skip
from vary_nb.data.documents import PdfPages
from vary_nb.model.vary import load
from vary_nb.train import evaluate


def draw(folder, lang, rows, cols, lines, n):
    "Up to n samples with so many lines in this language."
    of = lambda seed: PdfPages(folder, mode='lines', size=(32*rows, 32*cols), lines=(lines,lines), seed=seed, text_px=(14,18))
    found,engine = [],of(77)
    for i in range(400):
        if i and i%len(engine)==0: engine = of(78+i//len(engine))
        try: s = engine[i%len(engine)]
        except Skip: continue
        if s.lang==lang and s.text.count('\n')==lines-1: found.append(s)
        if len(found)==n: break
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('weights', nargs='+'); ap.add_argument('--en', required=True); ap.add_argument('--zh', required=True); ap.add_argument('--n', type=int, default=24)
    a = ap.parse_args(); warnings.simplefilter('ignore')
    for w in a.weights:
        model,processor = load(w)
        for lang,folder in (('en',a.en), ('zh',a.zh)):
            for rows,cols,lines in ((1,8,1), (2,8,2), (2,24,2), (4,24,4)):
                samples = draw(folder, lang, rows, cols, lines, a.n); r = evaluate(model, processor, samples)
                print(json.dumps(dict(weights=w, lang=lang, level=[rows,cols], lines=lines, n=len(samples), cer=round(r['cer'], 3), exact=round(r['exact'], 2))), flush=True)


if __name__=='__main__': main()
