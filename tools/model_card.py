"""Write the model card of shipped weights from the logs of the runs that made them.

    python tools/model_card.py --name nano --logs runs/nano-1.jsonl --eval runs/nano_eval.json --data runs/nano_data.json --out vary_nb/weights/nano/README.md"""
import argparse, json
from pathlib import Path

from vary_nb.train import read_log


def stages(path):
    "One row for each stretch of a log: what was changed, from which step to which, how long."
    rows = []
    for r in read_log(path):
        if r.get('kind')=='header': rows.append(dict(head=r, first=None, last=None))
        elif 'ms' in r and rows: rows[-1]['first'] = rows[-1]['first'] or r; rows[-1]['last'] = r
    return [r for r in rows if r['last']]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--name', required=True); ap.add_argument('--logs', nargs='+', required=True, type=Path)
    ap.add_argument('--eval', required=True, type=Path); ap.add_argument('--data', required=True, type=Path); ap.add_argument('--out', required=True, type=Path)
    a = ap.parse_args(); width = json.loads((a.out.parent/'config.json').read_text())['reading_width']; result = json.loads(a.eval.read_text()); data = json.loads(a.data.read_text()); out = []
    say = out.append
    say(f'---\nlicense: apache-2.0\nlanguage: [en, zh]\npipeline_tag: image-text-to-text\nlibrary_name: transformers\n---\n\n# Vary-tiny, preset `{a.name}`\n')
    say(f"A Vary-tiny of preset `{a.name}`, trained from nothing by this project on two CPU cores: no SAM, no OPT weights. It reads pieces of lines of English or Chinese print, up to {width} pixels wide at a font size of about 17; `vary_nb.reader` cuts pages and lines into such pieces. Half precision, transformers format.\n")
    say("```python\nfrom vary_nb.model.vary import load\nmodel, processor = load('" + a.name + "')\n```\n")
    say('## Results\n\nMeasured by `tools/measure_nano.py` on documents that training never saw (marked *held out* below).\n')
    say('| measured | English | Chinese |\n|---|---|---|')
    for label,key in result['rows']: say(f"| {label} | {result[key].get('en','')} | {result[key].get('zh','')} |")
    say('\n' + result['note'] + '\n\nNot for use where errors matter: it misreads rare characters, formulas and small print, and several lines in one look are much harder for it than one.\n')
    say('## Stages\n\nThe commands are in `runs/nano.sh`. A run that was stopped and started again with other settings is listed in its stretches; each goes on from the state of the one before.\n')
    say('| log | commit | recipe (SHA-256) | steps | minutes at its end | image tokens a batch and process | promoted at | level at its end | text loss |\n|---|---|---|---|---|---|---|---|---|')
    for log in a.logs:
        for r in stages(log):
            h,s,l = r['head'],r['head']['settings'],r['last']
            say(f"| `{log.name}` | {h['commit']} | `{Path(s['recipe']).name}` ({h['recipe_sha256'][:12]}) | {r['first']['step']}-{l['step']} | {l['seconds']/60:.0f} | {s['tokens']} | {s['promote'] if s['mix']<.8 else '-'} | {'x'.join(map(str, l['level'])) if s['mix']<.8 else 'all of ' + s['levels'].replace(',', ', ') + ' alike'} | {l['text']:.2f} |")
    say('\n## Data\n\nDrawn text: our own sentences and random characters, and the running text below, in the fonts of Debian\'s fonts-dejavu, fonts-liberation, fonts-lmodern, fonts-noto-cjk, fonts-wqy-microhei, fonts-arphic-uming, fonts-arphic-ukai and those inside PyMuPDF. Negatives: our own scenes and the photographs below. None of this data is in the repository.\n')
    say('| part | use | file | from | licence | SHA-256 |\n|---|---|---|---|---|---|')
    for r in data: say(f"| {r['part']} | {r['use']} | {r['file']} | {r['origin']} {('@ ' + r['ref'][:12]) if r['ref'] else ''} | {r['licence']} | {('`' + r['sha256'] + '`') if r['sha256'] else ''} |")
    a.out.write_text('\n'.join(out) + '\n')


if __name__=='__main__': main()
