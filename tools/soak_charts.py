"""Draw many charts in one process and watch: does what is drawn equal the truth, which charts are left out and why, does memory stay flat?

    python tools/soak_charts.py --charts 10000 --log runs/soak_charts.jsonl

Charts of both libraries in both languages. The comparison here is made from the dictionary in `meta` alone, not by the check of the engine.
One line of JSON for every thousand charts, a last one for the whole."""
import argparse, json, os, platform, re, sys, time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from vary_nb import __version__
from vary_nb.core import Skip, encode_image
from vary_nb.data.charts import Charts, render
from vary_nb.data.echarts import setup_echarts


def texts(d, lang):
    "Every text that a chart with this dictionary may show: the multiset that it must, and where values stand alone or beside names."
    must = [d['title'], ('数据来源：' if lang=='zh' else 'Source: ')+d['source'] if d['source'] else '', *d['axes']*(d['kind']!='pie')]
    must += [t for row in d['ticks'] for t in row] + [s['name'] for s in d['series'] if len(d['series'])>1]
    values = [v for s in d['series'] for v in s['values']]
    if d['kind']!='pie': return Counter(filter(None, must+d['categories']+values*d['shown'])), Counter()
    return Counter(filter(None, must)), Counter(''.join(d['categories']+values))


def differs(d, lang, drawn):
    "What is wrong, or ''."
    must,letters = texts(d, lang); got = Counter(drawn)
    if must-got: return f'missing {dict(must-got)}'
    rest = got-must
    if d['kind']!='pie': return f'not asked for {dict(rest)}' if rest else ''
    return '' if Counter(re.sub('[:： ]', '', ''.join(rest.elements())))==Counter(re.sub('[:： ]', '', ''.join(letters.elements()))) else f'slices say {dict(rest)}'


def memory(): return round(int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGESIZE')/1e6, 1)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--charts', type=int, default=10_000); ap.add_argument('--seed', type=int, default=0); ap.add_argument('--log', required=True, type=Path)
    a = ap.parse_args(); setup_echarts(); engine = Charts('both', 'both', seed=a.seed)
    rows,skips,wrong,given,kinds,start,cpu = [],Counter(),[],Counter(),Counter(),time.time(),time.process_time()
    for i in range(a.charts):
        asked,library = engine.spec(i)
        try:
            im,spec,drawn = render(asked, library); encode_image(im, 'jpeg'); d = spec.meta(); kinds[f"{library} {spec.lang} {d['form']}"] += 1
            if problem := differs(d, spec.lang, [t for t,_ in drawn]): wrong.append((i, problem))
            if spec.style!=asked.style: given['values' if asked.style.shown and not spec.style.shown and d['kind']!='pie' else 'looks'] += 1
        except Skip as e: skips[f'{library}: {e.reason}'] += 1
        if (i+1)%1000==0 or i+1==a.charts:
            rows.append(dict(charts=i+1, memory_mb=memory(), seconds=round(time.time()-start), cpu_s=round(time.process_time()-cpu), wrong=len(wrong), skips=sum(skips.values())))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    early = next(r['memory_mb'] for r in rows if r['charts']>=min(2000, a.charts))
    last = dict(kind='total', charts=a.charts, drawn=sum(kinds.values()), truth_differs=len(wrong), examples=wrong[:5], skips=dict(skips), given_up=dict(given), kinds=dict(sorted(kinds.items())),
                memory_2000=early, memory_end=rows[-1]['memory_mb'], memory_ratio=round(rows[-1]['memory_mb']/early, 3), charts_per_cpu_s=round(a.charts/(time.process_time()-cpu), 1),
                seed=a.seed, version=__version__, python=platform.python_version())
    a.log.parent.mkdir(parents=True, exist_ok=True); a.log.write_text(''.join(json.dumps(r, ensure_ascii=False)+'\n' for r in [*rows, last])); print(json.dumps(last, indent=1, ensure_ascii=False))
    sys.exit(bool(wrong))


if __name__=='__main__': main()
