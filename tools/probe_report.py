"""Ask the questions of chapter 24 of more lines, with all fonts of the machine, and write a JSON-lines log.

    python tools/probe_report.py --weights nano --out runs/probe.jsonl

Five kinds of records follow the header:
  probe    ridge regression on image tokens: trained weights, random weights (three networks, their mean score), bare pixels.
           The probe learns on some type designs and is tested on others, with other texts
  nearest  share of characters whose most similar cell of the neck, among cells in other fonts, holds the same character
  finger   the head that points best on some lines, counted on others, while the true text is written
  cut      the image token whose loss makes a character least probable: is it the one the character stands in?
  edit     CER of one line after tokens were dropped, reversed, shuffled or mixed among rows
Intervals are 95 %: a bootstrap over pictures, since the characters of one picture are not independent."""
import argparse, json, re, subprocess, sys, time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vary_nb.core import atomic_path, rng
from vary_nb.data.corpus import find_fonts
from vary_nb.data.text import TextPages
from vary_nb.metrics import cer
from vary_nb.model.vary import build, load
from vary_nb.probe import drop_tokens, edited, finger_hits, follow, glyph_tokens, linear_probe, nearest_tokens, shuffle_tokens, stages, token_effect

TEST = r'DejaVu|AR PL KaitiM|AR PL UKai|Noto Serif|NimbusRoman|Liberation Serif'   # the designs that test; all others teach the probe
SERIF = r'Serif|Roman|LMMono|NimbusMono'
SKIP = ('italic','oblique','slant','light','cond','narrow','quot','prop')


def boot(groups, ratio=lambda g: g[:,0].sum()/g[:,1].sum(), times=1000):
    "Value and 95 % interval of a statistic over rows that were drawn together."
    g = np.asarray(groups, float); r = rng(0, 'boot'); draws = [ratio(g[r.integers(len(g), size=len(g))]) for _ in range(times)]
    low,high = np.nanquantile(draws, (.025,.975))
    return dict(value=round(float(ratio(g)), 4), low=round(float(low), 4), high=round(float(high), 4))


def by_picture(right, picture):
    "(right, all) of each picture."
    right,picture = np.asarray(right, float),np.asarray(picture)
    return np.array([(right[picture==i].sum(), (picture==i).sum()) for i in np.unique(picture)])


def r_squared(truth, guess, picture):
    "Share of the variance explained, with an interval over pictures."
    truth,guess,picture = (np.asarray(t, float) for t in (truth, guess, picture)); ids = np.unique(picture)
    rows = np.array([[((truth-guess)[picture==i]**2).sum(), (truth[picture==i]**2).sum(), truth[picture==i].sum(), (picture==i).sum()] for i in ids])
    return boot(rows, lambda g: 1 - g[:,0].sum()/(g[:,1].sum()-g[:,2].sum()**2/g[:,3].sum()))


class Lines:
    "Pictures of lines in the fonts that teach or in those that test."
    def __init__(self):
        self.fonts = {(l, test): [f for f in find_fonts(l) if not re.search('|'.join(SKIP), f.name, re.I) and bool(re.search(TEST, f.name))==test]
                      for l in ('en','zh') for test in (False, True)}
    def __call__(self, lang, n, test=False, rows=1, width=256, seed=1, **kw):
        e = TextPages(lang=lang, seed=seed, size=(32*rows,width), lines=(rows,rows), **{**dict(fonts=self.fonts[lang,test], random_share=0., wear=0., text_px=(15,18)), **kw})
        return [s for s in (e[i] for i in range(n)) if s.text]


def pixels(processor, samples): return processor(images=[s.images[0] for s in samples])['pixel_values']

@torch.no_grad()
def maps(model, x, names=('neck','token')):
    parts = [stages(model, p) for p in x.split(64)]
    return {k: torch.cat([p[k] for p in parts]).movedim(1, -1) for k in names}          # (b,h,w,d)

def token_facts(samples, letters):
    "(picture, column, quarter or -1, letter or -1, size, bold, serif, Chinese, characters in the token), for tokens with ink."
    out = []
    for i,s in enumerate(samples):
        inside = {}
        for c,x0,y0,x1,y1 in s.glyphs.tolist(): inside.setdefault(min((x0+x1)//2, s.images[0].width-1)//32, []).append(((x0+x1)//2%32//8, letters.get(chr(c), -1)))
        facts = [s.meta['px'], float(bool(re.search('Bold|Demi', s.meta['font']))), float(bool(re.search(SERIF, s.meta['font']))), float(s.lang=='zh')]
        for col,ls in inside.items():
            for j,l in ls: out.append([i, col, j, l, *facts, len(ls)])
    return torch.tensor(out)


def ask_tokens(model, twins, processor, lines, n):
    "Everything about linear probes on image tokens."
    study = dict(random_share=.5, wear=.6, text_px=(12,22), width=160)
    train = lines('en', n, **study) + lines('zh', n, **study); test = lines('en', n//2, test=True, seed=2, **study) + lines('zh', n//2, test=True, seed=2, **study)
    letters = {chr(97+i): i for i in range(26)}
    xs = [pixels(processor, s) for s in (train, test)]; a,b = (token_facts(s, letters) for s in (train, test))
    sets = [('trained', [maps(model, x)['token'] for x in xs])] + [('random', [maps(t, x)['token'] for x in xs]) for t in twins]
    sets += [('pixels', [x[:,:1].unfold(2,32,32).unfold(3,32,32).flatten(4)[:,0] for x in xs])]
    once = lambda t: t[np.unique(t[:,:2].numpy(), axis=0, return_index=True)[1]]                 # one row a token
    def ask(question, measure, ta, tb, column, whole):
        rec,found = dict(kind='probe', question=question, measure=measure, n=len(tb)),{}
        for who,(fa,fb) in sets:
            at = lambda f, t: f[t[:,0].long(), 0, t[:,1].long()]
            guess = linear_probe(at(fa, ta), ta[:,column].long() if whole else ta[:,column].double(), at(fb, tb))
            score = boot(by_picture(guess==tb[:,column].long(), tb[:,0])) if whole else r_squared(tb[:,column], guess, tb[:,0])
            found.setdefault(who, []).append(score)
        rec |= {who: {k: round(float(np.mean([s[k] for s in ss])), 4) for k in ss[0]} for who,ss in found.items()}
        if whole: rec['commonest'] = round(float(tb[:,column].long().bincount().max()/len(tb)), 4)
        return rec
    for j in range(4):
        pick = lambda t: t[(t[:,2]==j) & (t[:,3]>=0)]
        yield ask(f'which small letter is centred in its quarter {j+1} of 4?', 'share right', pick(a), pick(b), 3, True)
    a,b = once(a),once(b)
    yield ask('how large is the type?', 'R2', a, b, 4, False)
    yield ask('how many characters have their centre in it?', 'R2', a, b, 8, False)
    yield ask('is it Chinese?', 'share right', a, b, 7, True)
    en = lambda t: t[t[:,7]==0]
    yield ask('is it bold (English)?', 'share right', en(a), en(b), 5, True)
    yield ask('has it serifs (English)?', 'share right', en(a), en(b), 6, True)
    yield ask('in which column of the line is it?', 'R2', a, b, 1, False)


def ask_four(model, processor, lines, n):
    "Does the eye lose letters when there are four lines? A probe on the neck, taught on single lines, tested on one and on four."
    def cells(samples): return torch.tensor([(i, (y0+y1)//2//8, (x0+x1)//2//8, c-97) for i,s in enumerate(samples) for c,x0,y0,x1,y1 in s.glyphs.tolist() if 97<=c<123])
    pick = lambda s, at: maps(model, pixels(processor, s), ('neck',))['neck'][at[:,0], at[:,1], at[:,2]]
    teach = lines('en', n); at = cells(teach); f = pick(teach, at)
    for rows in (1, 4):
        s = lines('en', max(8, n//(2*rows)), test=True, rows=rows, seed=3); b = cells(s)
        yield dict(kind='eye', lang='en', lines=rows, n=len(b), trained=boot(by_picture(linear_probe(f, at[:,3], pick(s, b))==b[:,3], b[:,0])))


def ask_neighbours(model, twin, processor, lines, n):
    "Is the most similar cell, in other fonts and texts, the same character?"
    for lang in ('en','zh'):
        few = dict(width=160, text_px=(13,20), wear=.6)
        bank,query = lines(lang, 3*n, **few),lines(lang, n, test=True, seed=2, **few); f = {}
        at = [torch.tensor([(i, (y0+y1)//2//8, (x0+x1)//2//8, c) for i,s in enumerate(ss) for c,x0,y0,x1,y1 in s.glyphs.tolist() if chr(c).isalnum()]) for ss in (bank, query)]
        at[1] = at[1][torch.isin(at[1][:,3], at[0][:,3])]                                   # only characters that the bank has at all
        for who,net in (('trained',model),('random',twin)): f[who] = [maps(net, pixels(processor, ss), ('neck',))['neck'][p[:,0],p[:,1],p[:,2]] for ss,p in zip((bank,query), at)]
        grey = [F.pad(pixels(processor, ss)[:,:1], (4,4,4,4), value=1.2).unfold(2,16,8).unfold(3,16,8).flatten(4)[:,0] for ss in (bank,query)]
        f['pixels'] = [g[p[:,0],p[:,1],p[:,2]] for g,p in zip(grey, at)]
        hit = {who: at[0][nearest_tokens(fb, fa, 1)[1][:,0],3]==at[1][:,3] for who,(fa,fb) in f.items()}
        yield dict(kind='nearest', lang=lang, n=len(at[1]), bank=len(at[0]), characters=len(at[0][:,3].unique()), **{who: boot(by_picture(h, at[1][:,0])) for who,h in hit.items()})


def ask_finger(model, processor, lines, n):
    "Does one head point at the next character, and at its line?"
    point = lambda ss: ([follow(model, processor, s.images[0], s.text) for s in ss], [glyph_tokens(s, 32) for s in ss])
    hits,_ = finger_hits(*point(lines('en', n//2, seed=21)+lines('zh', n//2, seed=21))); finger = divmod(int(hits.argmax()), hits.shape[1])
    yield dict(kind='head', layer=finger[0], head=finger[1], share=round(float(hits.max()/_), 4), n=_)
    for lang in ('en','zh'):
        for rows in (1, 2, 4):
            rs,ps = point(lines(lang, n, test=True, rows=rows, seed=22)); token,line = [],[]
            for r,places in zip(rs, ps):
                path,told = r.path(*finger),[(t, p) for t,p in enumerate(places) if p]
                token.append((sum(tuple(path[t].tolist())==p for t,p in told), len(told))); line.append((sum(int(path[t,0])==p[0] for t,p in told), len(told)))
            yield dict(kind='finger', lang=lang, lines=rows, pictures=len(rs), n=int(np.sum(token, 0)[1]), token=boot(token), line=boot(line), luck=round(1/(8*rows), 4))
        own,near = [],[]
        for s in lines(lang, n, test=True, seed=23):
            e,told = token_effect(model, processor, s.images[0], s.text),[(t, p) for t,p in enumerate(glyph_tokens(s, 32)) if p]
            own.append((sum(int(e[t].argmax())==p[1] for t,p in told), len(told))); near.append((sum(abs(int(e[t].argmax())-p[1])<=1 for t,p in told), len(told)))
        yield dict(kind='cut', lang=lang, n=int(np.sum(own, 0)[1]), own=boot(own), own_or_beside=boot(near))


def ask_edits(model, processor, lines, n):
    "Reading with tokens dropped or out of order."
    def read(samples, edit, most):
        got = []
        for a in range(0, len(samples), 32):
            x = processor(images=[s.images[0] for s in samples[a:a+32]])
            with edited(model, edit or (lambda f: f)): got += processor.decode_new(model.generate(**x, max_new_tokens=most, do_sample=False), x)
        return boot([(cer([g], [s.text])*len(s.text), len(s.text)) for g,s in zip(got, samples)])
    for lang in ('en','zh'):
        for rows in (1, 2):
            ss = lines(lang, n, test=True, rows=rows, seed=41); shuffle = partial(partial, shuffle_tokens, rows=rows)
            edits = {'none':None, 'reversed':shuffle(how='back'), 'shuffled':shuffle(), **{f'dropped {k}': partial(drop_tokens, k=k) for k in (1,2,4,8)}} if rows==1 else \
                    {'none':None, 'columns shuffled':shuffle(how='cols'), 'lines exchanged':partial(shuffle_tokens, rows=rows, how='rows', seed=1), 'all shuffled':shuffle()}
            for name,e in edits.items(): yield dict(kind='edit', lang=lang, lines=rows, edit=name, n=len(ss), characters=sum(len(s.text) for s in ss), cer=read(ss, e, 60*rows))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--weights', default='nano'); ap.add_argument('--out', type=Path, default=Path('runs/probe.jsonl'))
    ap.add_argument('--n', type=float, default=1., help='1: as in the committed log; .1: a quick look')
    a = ap.parse_args(); k = a.n; start = time.process_time()
    model,processor = load(a.weights); twins = []
    for seed in range(3): torch.manual_seed(seed); twins.append(build(a.weights)[0].eval())
    lines = Lines()
    git = subprocess.run(['git','rev-parse','--short','HEAD'], capture_output=True, text=True).stdout.strip()
    head = dict(kind='header', command='python '+' '.join(sys.argv), commit=git, weights=a.weights, torch=torch.__version__,
        fonts={f"{l} {'test' if t else 'train'}": sorted({f.name for f in fs}) for (l,t),fs in lines.fonts.items()})
    m = lambda n: max(4, int(n*k))
    jobs = (ask_tokens(model, twins, processor, lines, m(700)), ask_four(model, processor, lines, m(200)), ask_neighbours(model, twins[0], processor, lines, m(150)),
            ask_finger(model, processor, lines, m(40)), ask_edits(model, processor, lines, m(60)))
    with atomic_path(a.out) as tmp, tmp.open('w') as f:
        for rec in (r for job in ([head], *jobs) for r in job):
            line = json.dumps(rec, ensure_ascii=False); f.write(line+'\n'); f.flush(); sys.stderr.write(line[:200]+'\n')
        f.write(json.dumps(dict(kind='end', cpu_seconds=round(time.process_time()-start)))+'\n')


if __name__=='__main__': sys.exit(main())
