"What the three parsers make of real sources: python tools/latex_report.py FOLDER... [--log runs/latex_blocks.jsonl]"
import argparse, json, platform, resource, statistics, sys, time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vary_nb.core import Skip, progress
from vary_nb.data.arxiv import list_documents
from vary_nb.data.latex import METHODS, markdown, read_blocks, read_markdown


def cpu():
    "Seconds of this process and of its children (pandoc)."
    return sum(u.ru_utime+u.ru_stime for u in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))

def measure(documents, method):
    "One record: what a method gives for all documents."
    kinds,reasons,failed,langs,ms,back = Counter(),Counter(),Counter(),Counter(),[],0
    for address in progress(documents, desc=method):
        start = cpu()
        try: p = read_blocks(address, method)
        except Skip as e: failed[e.reason] += 1; continue
        except Exception as e: failed[f'crash: {type(e).__name__}: {address}'] += 1; continue
        ms.append(1000*(cpu()-start)); langs[p.lang] += 1
        kinds.update(b.kind for b in p.blocks)
        for r,n in p.dropped.items(): reasons[r.split(': \\')[0].split(' U+')[0][:-2 if r.startswith('a character') else None]] += n
        md = markdown(p.blocks); back += markdown(read_markdown(md))==md
    return dict(method=method, documents=len(documents), gave_blocks=len(ms), share=round(len(ms)/max(1, len(documents)), 4), languages=langs,
                cpu_ms_median=round(statistics.median(ms), 1) if ms else None, cpu_ms_mean=round(statistics.mean(ms), 1) if ms else None,
                there_and_back=back, blocks=sum(kinds.values()), kinds=kinds, failed=failed, left_out=dict(reasons.most_common(40)))

def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('sources', nargs='+'); p.add_argument('--log', default=''); p.add_argument('--most', type=int, default=10**9); p.add_argument('--name', default='sources')
    a = p.parse_args(); skipped = {}
    documents = list_documents(a.sources, skipped)
    documents = documents[::max(1, len(documents)//a.most)]
    for record in [measure(documents, m) for m in ('auto', *METHODS)]:
        line = json.dumps({'sources':a.name, 'unreadable':len(skipped), 'python':platform.python_version(), 'date':time.strftime('%Y-%m-%d'), **record}, ensure_ascii=False)
        if a.log:
            with open(a.log, 'a') as f: f.write(line+'\n')
        sys.stdout.write(line+'\n')

if __name__=='__main__': main()
