"""How much faster are two workers than one? Steady rate of building pages from real PDFs, start-up left out.

    python tools/bench_workers.py --pdfs folder --rounds 3 --log runs/bench_workers.jsonl

Each round builds the same shards with one worker and with two, in turns. The clock starts when a third of the shards is
finished (importing, opening documents, fonts are behind them then) and stops with the last one."""
import argparse, json, os, platform, shutil, statistics, tempfile
from pathlib import Path

from vary_nb.data.recipes import Part, Recipe, build


def rate(recipe, workers):
    "Pages a second over the last two thirds of the shards."
    out = Path(tempfile.mkdtemp(prefix='vary-workers-'))
    try:
        build(recipe, out, workers=workers); ends = sorted(p.stat().st_mtime for p in out.glob('*.report.json'))
        first = len(ends)//3
        return (len(ends)-1-first)*recipe.shard_size/(ends[-1]-ends[first])
    finally: shutil.rmtree(out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--pdfs', nargs='+', required=True); ap.add_argument('--pages', type=int, default=600); ap.add_argument('--shard', type=int, default=20)
    ap.add_argument('--rounds', type=int, default=3); ap.add_argument('--log', type=Path, required=True)
    a = ap.parse_args()
    recipe = Recipe('pages', [Part('PdfPages', settings=dict(sources='pdfs', side=1024))], samples=a.pages, shard_size=a.shard, format='jpeg', sources=dict(pdfs=a.pdfs))
    rows = []
    for k in range(a.rounds):
        got = {w: rate(recipe, w) for w in ((1,2) if k%2==0 else (2,1))}; one,two = got[1],got[2]
        rows.append(dict(round=k, one=round(one, 2), two=round(two, 2), times=round(two/one, 3))); print(json.dumps(rows[-1]), flush=True)
    total = dict(kind='total', pages=a.pages, rounds=a.rounds, times=statistics.median(r['times'] for r in rows), cpus=os.cpu_count(), python=platform.python_version())
    a.log.write_text(''.join(json.dumps(r) + '\n' for r in [*rows, total])); print(json.dumps(total))


if __name__=='__main__': main()
