"""Build many pages from real PDFs in one worker and watch it: rate, skips by reason, memory, share of writing.

    python tools/soak_pages.py --pdfs en=folder_en --pdfs zh=folder_zh --pages 10000 --out folder --log runs/soak_pages.jsonl

The worker is one process and the guarded child in which MuPDF works. One line of JSON for every shard, a last one for the whole."""
import argparse, json, os, platform, sys, time
from collections import Counter
from pathlib import Path

from vary_nb import __version__
from vary_nb.core import progress
from vary_nb.data.recipes import Part, Recipe, make_shard


def memory(pid=None):
    "Resident megabytes of a process and all its descendants."
    total,todo = 0,[pid or os.getpid()]
    while todo:
        p = todo.pop()
        try:
            total += int(Path(f'/proc/{p}/statm').read_text().split()[1])*os.sysconf('SC_PAGESIZE')
            for t in Path(f'/proc/{p}/task').iterdir(): todo += map(int, (t/'children').read_text().split())
        except (FileNotFoundError, ProcessLookupError): pass # it ended meanwhile
    return round(total/1e6, 1)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--pdfs', action='append', required=True, metavar='NAME=FOLDER'); ap.add_argument('--pages', type=int, default=10_000)
    ap.add_argument('--shard', type=int, default=500); ap.add_argument('--format', default='jpeg')
    ap.add_argument('--out', required=True); ap.add_argument('--log', required=True, type=Path); ap.add_argument('--set', action='append', default=[], metavar='KEY=JSON', help='settings of PdfPages')
    a = ap.parse_args()
    sources = dict(p.split('=', 1) for p in a.pdfs); settings = {k:json.loads(v) for k,v in (s.split('=', 1) for s in a.set)}
    recipe = Recipe('soak', [Part('PdfPages', name=n, settings={**settings, 'sources':n}) for n in sources], samples=a.pages, shard_size=a.shard,
                    format=a.format, sources={n:[f] for n,f in sources.items()})
    rows,start = [],time.time()
    for k in progress(range(recipe.shards), desc='shards'):
        r = make_shard(recipe, k, a.out)
        rows.append(dict(pages=min(a.pages, (k+1)*a.shard), seconds=r['seconds'], writing=r['writing'], bytes=r['bytes'], characters=r['characters'],
                         memory_mb=memory(), skips=r['skips']))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    skips = dict(sum((Counter(r['skips']) for r in rows), Counter())); at = lambda n: next(r['memory_mb'] for r in rows if r['pages']>=min(n, a.pages))
    seconds = sum(r['seconds'] for r in rows); cpu = os.times(); cpu = cpu.user+cpu.system+cpu.children_user+cpu.children_system
    last = dict(kind='total', pages=a.pages, shards=recipe.shards, seconds=round(seconds, 1), pages_a_second=round(a.pages/seconds, 2), parent_cpu_s=round(cpu, 1),
                writing_share=round(sum(r['writing'] for r in rows)/seconds, 4), memory_1000=at(1000), memory_end=at(a.pages), memory_ratio=round(at(a.pages)/at(1000), 3),
                skips=skips, wall=round(time.time()-start, 1), version=__version__, python=platform.python_version(), settings=settings, format=a.format)
    a.log.write_text(''.join(json.dumps(r) + '\n' for r in [*rows, last])); print(json.dumps(last, indent=1))


if __name__=='__main__': main()
