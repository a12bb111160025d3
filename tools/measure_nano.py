"""Measure weights on PDFs that training never saw, through the reader, and write one JSON file.

    python tools/measure_nano.py --weights nano --en pdfs_en --zh pdfs_zh --photos pictures --out runs/nano_eval.json

What is measured, for each language:
  lines   single text lines cut out of pages rendered at 150 dpi, read by the reader; beside it the same with blank pictures
  curve   1, 2 and 4 lines in one look, as wide as the view, text 14-18 px high
  pages   whole pages at 150 dpi, and Tesseract 5 on the same pictures where it is installed
  photos  pictures without text: on how many of them text is printed that is not one of the five sentences, in one look and cut
CER is edits / true characters, summed over all samples. The texts themselves are not stored."""
import argparse, json, shutil, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vary_nb.core import Skip, open_image, progress, rng
from vary_nb.data.documents import PdfPages
from vary_nb.data.natural import NEGATIVES
from vary_nb.data.pdf import open_pdf, page_lines, page_pixels
from vary_nb.metrics import cer
from vary_nb.reader import Reader
from vary_nb.train import evaluate

DPI = 150


def is_lang(text, lang):
    "Is a text written in the language? A Chinese line has at least one third Han."
    han = sum('\u4e00'<=c<='\u9fff' for c in text)
    return han*3>=len(text) if lang=='zh' else han==0


def readable_pages(folder):
    "(document, page number) of all pages with text."
    for f in sorted(Path(folder).glob('*.pdf')):
        doc = open_pdf(f)
        for k in range(doc.page_count): yield f, k


def good_lines(page, lang):
    "Lines of a page that can be a sample: kept by the engine's own rules, four characters or more."
    return [l for l in page_lines(page) if not getattr(l, 'why', '') and len(l.text.strip())>=4 and is_lang(l.text, lang)]


def clip(page, line):
    "The picture of one line at 150 dpi, with a margin of a point and a half."
    x0,y0,x1,y1 = line.box
    return page_pixels(page, dpi=DPI, clip=(x0-1.5, y0-1.5, x1+1.5, y1+1.5))


def measure_lines(reader, folder, lang, n, seed=0):
    "CER of n random lines, and of blank pictures of the same sizes."
    pool = list(readable_pages(folder)); ims,truth,docs = [],[],set()
    for t in range(50*n):
        if len(ims)==n: break
        r = rng(seed, 'line', lang, t); f,k = pool[int(r.integers(len(pool)))]; page = open_pdf(f)[k]
        lines = good_lines(page, lang)
        if not lines: continue
        line = lines[int(r.integers(len(lines)))]
        ims.append(clip(page, line)); truth.append(line.text); docs.add(f.name)
    got = [reader.read(im)[0].text.replace('\n', ' ') for im in progress(ims, desc=f'lines {lang}')]
    blank = [reader.read(Image.new('RGB', im.size, 'white'), look='whole')[0].text for im in ims[:50]]
    exact = float(np.mean([cer([g], [t])==0 for g,t in zip(got, truth)]))
    return dict(n=len(ims), documents=len(docs), characters=sum(map(len, truth)), cer=cer(got, truth), exact=exact, blank=cer(blank, truth[:50]))


def measure_curve(reader, folder, lang, n):
    "One look at 1, 2, 4 lines as wide as the view."
    out = []
    for k in (1,2,4):
        engine = PdfPages([folder], seed=1, mode='lines', lines=(k,k), text_px=(14,18), size=(32*k,768)); ss = []
        for i in range(40*n):
            if len(ss)==n: break
            try: s = engine[i]
            except Skip: continue
            if is_lang(s.text, lang) and s.text.count('\n')==k-1: ss.append(s)
        if not ss: out.append(dict(lines=k, n=0, cer=None)); continue
        rows = [evaluate(reader.model, reader.processor, ss[j:j+8]) for j in range(0, len(ss), 8)]
        chars = [sum(len(s.text) for s in ss[j:j+8]) for j in range(0, len(ss), 8)]
        out.append(dict(lines=k, n=len(ss), cer=float(np.average([r['cer'] for r in rows], weights=chars))))
    return out


def tesseract(im, lang):
    "What Tesseract reads, or None if it is not installed."
    if not shutil.which('tesseract'): return None
    with tempfile.TemporaryDirectory() as d:
        im.save(f'{d}/p.png', dpi=(DPI,DPI))
        r = subprocess.run(['tesseract', f'{d}/p.png', '-', '-l', dict(en='eng', zh='chi_sim')[lang]], capture_output=True, text=True)
        return r.stdout if r.returncode==0 else None


def measure_pages(reader, folder, lang, n, seed=2):
    "CER of n whole pages, and Tesseract's on the same pictures."
    pool = list(readable_pages(folder)); ours,theirs,truth,seconds,picked = [],[],[],0.,set()
    for t in range(20*n):
        if len(truth)==n: break
        f,k = pool[int(rng(seed, 'page', lang, t).integers(len(pool)))]
        if (f,k) in picked: continue
        picked.add((f,k)); page = open_pdf(f)[k]
        lines = [l for l in page_lines(page) if not getattr(l, 'why', '')]; text = '\n'.join(l.text for l in lines)
        han = sum('\u4e00'<=c<='\u9fff' for c in text)
        if len(text)<400 or (lang=='zh' and han<len(text)/3): continue
        im = page_pixels(page, dpi=DPI); start = time.time()
        ours.append(reader.read(im)[0].text); seconds += time.time()-start
        theirs.append(tesseract(im, lang)); truth.append(text)
    both = all(x is not None for x in theirs)
    return dict(n=len(truth), cer=cer(ours, truth), tesseract=cer(theirs, truth) if both and truth else None, seconds=seconds/max(1, len(truth)))


def measure_photos(reader, folder, n):
    """On how many pictures without text is text printed? In one look: each picture at the size of the view, and a crop of it;
    and as a user would do it, the whole file given to the reader, which cuts out what looks like lines."""
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in ('.jpg','.jpeg','.png','.webp'))[:n]; ims = []
    for i,f in enumerate(files):
        im = open_image(f); ims.append(im.resize((256, max(32, min(256, round(im.height*256/im.width))))))
        r = rng(3, 'crop', i); x,y = int(r.integers(max(1, im.width-384))), int(r.integers(max(1, im.height-128)))
        ims.append(im.crop((x, y, min(im.width, x+384), min(im.height, y+128))))
    said = [reader.read(im, look='whole')[0].text.strip() for im in progress(ims, desc='photos')]
    whole = [reader.read(f)[0].text.strip() for f in progress(files, desc='photos, cut')]; text = lambda ss: [s for s in ss if s not in NEGATIVES and s!='']
    return dict(n=len(said), printed=len(text(said)), files=len(files), cut_printed=len(text(whole)), cut_characters=sum(map(len, text(whole))))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--weights', default='nano'); ap.add_argument('--en', required=True); ap.add_argument('--zh', required=True)
    ap.add_argument('--photos'); ap.add_argument('--out', required=True, type=Path)
    ap.add_argument('--lines', type=int, default=300); ap.add_argument('--pages', type=int, default=10); ap.add_argument('--curve', type=int, default=64)
    a = ap.parse_args(); torch.set_num_threads(2); reader = Reader(a.weights); out = dict(lines={}, curve={}, pages={})
    for lang,folder in (('en',a.en), ('zh',a.zh)):
        out['lines'][lang] = measure_lines(reader, folder, lang, a.lines); print(lang, out['lines'][lang], file=sys.stderr, flush=True)
        out['curve'][lang] = measure_curve(reader, folder, lang, a.curve); print(lang, out['curve'][lang], file=sys.stderr, flush=True)
        out['pages'][lang] = measure_pages(reader, folder, lang, a.pages); print(lang, out['pages'][lang], file=sys.stderr, flush=True)
    if a.photos: out['photos'] = measure_photos(reader, a.photos, 100); print(out['photos'], file=sys.stderr)
    show = lambda key, f: {l: f(out[key][l]) for l in ('en','zh')}; pc = lambda x: '-' if x is None else f'{100*x:.1f} %'
    out['t_lines'] = show('lines', lambda r: f"{pc(r['cer'])} (n={r['n']} lines of {r['documents']} documents)")
    out['t_blank'] = show('lines', lambda r: pc(r['blank']))
    for i,k in enumerate((1,2,4)): out[f't_{k}'] = show('curve', lambda r: f"{pc(r[i]['cer'])} (n={r[i]['n']})")
    out['t_pages'] = show('pages', lambda r: f"{pc(r['cer'])} (n={r['n']})")
    out['t_tess'] = show('pages', lambda r: pc(r['tesseract']))
    out['rows'] = [['single lines at 150 dpi, through the reader: CER', 't_lines'], ['the same model on blank pictures', 't_blank'],
        ['one look at 1 line as wide as the view, text 14-18 px', 't_1'], ['one look at 2 lines', 't_2'], ['one look at 4 lines', 't_4'],
        ['whole pages at 150 dpi', 't_pages'], ['Tesseract 5 on the same pages', 't_tess']]
    p = out.get('photos'); size = sum(x.numel() for x in reader.model.parameters())
    out['note'] = f"Weights `{Path(a.weights).name}`, {size/1e6:.1f} M parameters." + (f" Pictures without text: in one look it printed text on {p['printed']} of {p['n']}; given to the reader, on {p['cut_printed']} of {p['files']} photographs, {p['cut_characters']/max(1, p['files']):.0f} characters a photograph." if p else '')
    a.out.write_text(json.dumps(out, indent=1))


if __name__=='__main__': main()
