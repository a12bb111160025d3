"Hostile files: byte-fuzzed PDFs, bombs, broken archives; and native code that crashes, hangs or eats memory."
import gzip, io, os, tarfile, warnings, zipfile, zlib
from collections import Counter
from operator import attrgetter
from pathlib import Path

import numpy as np
import pymupdf
import pytest

from helpers import TEXT, make_pdf
from naughty import stuck, worker
from vary_nb.core import Sample, Skip
from vary_nb.data import files
from vary_nb.data.documents import PdfPages, sample_pdf, survey
from vary_nb.data.files import Guard, list_inputs

# ---- PDFs with wrong bytes

def originals(folder):
    "Four small documents that differ in how they are put together."
    make_pdf(folder/'plain.pdf', pages=2, lines=TEXT*3)                                        # readable by eye
    sample_pdf(folder/'font.pdf', 'zh', pages=1, seed=3)                                       # an embedded font, compressed
    make_pdf(folder/'packed.pdf', pages=2, lines=TEXT*3, garbage=3, deflate=True, use_objstms=1)   # object and xref streams
    doc = pymupdf.open(); page = doc.new_page(width=300, height=300)
    noise = pymupdf.Pixmap(pymupdf.csRGB, 40, 40, bytes(range(240))*20, False)
    page.insert_image((20,150,120,250), pixmap=noise)
    for k in range(8): page.insert_text((20, 20+14*k), TEXT[k%3], fontsize=10)
    doc.save(folder/'image.pdf', deflate=True)
    return {p.name: p.read_bytes() for p in sorted(folder.glob('*.pdf'))}


def mutate(data, r):
    "One to eight wounds of one kind."
    b = bytearray(data); kind = int(r.integers(7))
    for _ in range(int(r.integers(1, 9))):
        i = int(r.integers(len(b))); n = int(r.integers(1, 60))
        if kind==0: b[i] ^= 1<<int(r.integers(8))                                              # a bit
        elif kind==1: b[i] = int(r.integers(256))                                              # a byte
        elif kind==2: del b[i:i+n]                                                             # a gap
        elif kind==3: b[i:i] = r.bytes(n)                                                      # noise
        elif kind==4: b[i:i] = b[int(r.integers(len(b))):][:n]                                 # a copy from elsewhere
        elif kind==5:                                                                          # another number
            digits = [j for j in range(i, min(len(b), i+400)) if 48<=b[j]<58]
            if digits: b[digits[0]:digits[0]+1] = (b'99999999', b'-1', b'0', b'4294967296')[int(r.integers(4))]
        else: del b[int(len(b)*(.3+.7*r.random())):]                                           # cut off
        if len(b)<10: break
    return bytes(b)


def test_fuzzed_pdfs(tmp_path):
    "320 damaged documents in one zip: each page is a sample or a skip, each document that has no page is named."
    r = np.random.default_rng(5); (tmp_path/'good').mkdir(); good = originals(tmp_path/'good')
    with zipfile.ZipFile(tmp_path/'fuzz.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        for k in range(80):
            for name,data in good.items(): z.writestr(f'{k:03d}-{name}', mutate(data, r))
    addresses = list_inputs(tmp_path/'fuzz.zip'); assert len(addresses)==320
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); engine = PdfPages(tmp_path/'fuzz.zip', side=256, fewest=40)
    assert set(engine.docs) | set(engine.skipped)==set(addresses) and not set(engine.docs) & set(engine.skipped)
    assert all('\n' not in why for why in engine.skipped.values())
    told = Counter()
    with Guard(attrgetter('__getitem__'), engine, seconds=5, megabytes=1500) as guard:
        for i in range(min(len(engine), 800)):                   # a number of pages may have become 4294967296
            try: s = guard(i)
            except Skip as e: told[e.reason] += 1
            else: told['sample'] += 1; assert isinstance(s, Sample) and s.text and max(s.images[0].size)<=257
    assert told['sample']>100 and len(engine.skipped)>5 and sum(told.values())>300, (told, len(engine.skipped))
    assert not {'crashed','time limit','memory limit'} & set(told), told


def test_many_pages_claimed(tmp_path):
    "A page tree that claims a thousand million pages costs one document, not the memory of the machine."
    make_pdf(tmp_path/'good.pdf', lines=TEXT*3); data = make_pdf(tmp_path/'liar.pdf').read_bytes()
    assert b'/Count 1' in data
    (tmp_path/'liar.pdf').write_bytes(data.replace(b'/Count 1', b'/Count 1000000000'))
    with pytest.warns(UserWarning, match='liar.pdf'): engine = PdfPages(tmp_path, side=200)
    assert len(engine)==1 and engine[0].text.startswith(TEXT[0])

# ---- archives

def tar(path, members, mode='w'):
    with tarfile.open(path, mode) as t:
        for name,data in members.items(): info = tarfile.TarInfo(name); info.size = len(data); t.addfile(info, io.BytesIO(data))


def test_bad_archives(tmp_path, monkeypatch):
    "A folder of bombs and broken archives around some good documents: the good are read, the bad are named."
    one = make_pdf(tmp_path/'one.pdf', lines=TEXT*3).read_bytes(); six = {f'{k}.pdf': one for k in range(6)}
    with zipfile.ZipFile(tmp_path/'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('zeros.pdf', bytes(60_000_000))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('zeros.pdf', bytes(60_000_000))
    with zipfile.ZipFile(tmp_path/'nested.zip', 'w') as z: z.writestr('in.zip', inner.getvalue())
    with zipfile.ZipFile(tmp_path/'many.zip', 'w') as z:
        for k in range(1001): z.writestr(zipfile.ZipInfo(f'{k}.pdf'), b'')
    monkeypatch.setattr(files, 'MANY', 1000)
    (tmp_path/'bomb.tar.gz').write_bytes(gzip.compress(bytes(60_000_000)))
    tar(tmp_path/'cut.tar', six); raw = (tmp_path/'cut.tar').read_bytes(); (tmp_path/'cut.tar').write_bytes(raw[:len(raw)//2])
    tar(tmp_path/'header.tar', six); raw = bytearray((tmp_path/'header.tar').read_bytes()); raw[raw.index(b'2.pdf')+30] = 255
    (tmp_path/'header.tar').write_bytes(raw)
    tar(tmp_path/'member.tgz', {**six, '3.pdf': os.urandom(3000), '4.pdf': b'', '../up.pdf': one}, 'w:gz')
    with zipfile.ZipFile(tmp_path/'flip.zip', 'w') as z: z.writestr('good.pdf', one); z.writestr('hurt.pdf', one)
    raw = bytearray((tmp_path/'flip.zip').read_bytes()); raw[raw.rindex(b'PK\3\4')+200] ^= 4; (tmp_path/'flip.zip').write_bytes(raw)
    (tmp_path/'half.zip').write_bytes(bytes(raw[:len(raw)//2])); (tmp_path/'web.tar').write_text('<html>404</html>')
    with pytest.warns(UserWarning): engine = PdfPages(tmp_path, side=200)
    kept = Counter(Path(a.split('::')[0]).name for a in engine.docs)
    assert kept=={'one.pdf':1, 'flip.zip':1, 'cut.tar':kept['cut.tar'], 'header.tar':5, 'member.tgz':4} and 2<=kept['cut.tar']<=4
    said = lambda *words: [why for why in engine.skipped.values() if all(w in why for w in words)]
    for words in (('bomb.zip', 'a bomb'), ('many.zip', 'more than 1,000'), ('bomb.tar.gz', 'a bomb'), ('cut.tar', 'cut short'), ('header.tar', 'damaged'),
                  ('member.tgz', 'unsafe name'), ('3.pdf', 'not a PDF'), ('4.pdf', 'empty'), ('hurt.pdf', 'damaged'), ('half.zip', 'not a zip'), ('web.tar', 'neither')):
        assert len(said(*words))==1, (words, engine.skipped)
    assert not said('nested') and not [why for why in engine.skipped.values() if '\n' in why]
    assert {engine[i].text for i in range(len(engine))}=={'\n'.join(TEXT*3)}


def test_survey_and_its_engine(tmp_path):
    "A survey of the same folder twice is the same; its engine has no gaps and no page twice."
    make_pdf(tmp_path/'a.pdf', pages=3, lines=TEXT*3); make_pdf(tmp_path/'b.pdf', lines=TEXT*4); make_pdf(tmp_path/'short.pdf', lines=['Hm.'])
    (tmp_path/'not.pdf').write_text('no')
    made = [survey(tmp_path, tmp_path/f'{k}.jsonl') for k in (1,2)]
    assert made[0]==made[1]=={'':5, 'unreadable document':1} and (tmp_path/'1.jsonl').read_bytes()==(tmp_path/'2.jsonl').read_bytes()
    engine = PdfPages(survey=tmp_path/'1.jsonl', side=200)
    assert engine.left_out=={'duplicate page':2, 'too few characters':1, 'unreadable document':1}
    assert [engine[i].meta['source'] for i in range(len(engine))]==['a.pdf','b.pdf']
    shared = [survey(tmp_path, tmp_path/f'part{k}.jsonl', part=(k,2)) for k in (0,1)]
    both = PdfPages(survey=[tmp_path/'part0.jsonl', tmp_path/'part1.jsonl'], side=200)
    assert shared[0]+shared[1]==made[0] and {both[i].text for i in range(len(both))}=={engine[i].text for i in range(len(engine))}

# ---- native code that goes wrong

def image_bomb(path, side=12_000):
    "A picture of 432 MB in a file of half a megabyte."
    squeeze = zlib.compressobj(1); rows = bytes(3*side*100)
    data = b''.join(squeeze.compress(rows) for _ in range(side//100))+squeeze.flush()
    doc = pymupdf.open(); page = doc.new_page(width=300, height=300); im,draw = doc.get_new_xref(),doc.get_new_xref()
    doc.update_object(im, f'<</Type/XObject/Subtype/Image/Width {side}/Height {side}/ColorSpace/DeviceRGB/BitsPerComponent 8>>')
    doc.update_stream(im, data, new=1, compress=0); doc.xref_set_key(im, 'Filter', '/FlateDecode')
    doc.update_object(draw, '<<>>'); doc.update_stream(draw, b'q 200 0 0 200 10 10 cm /I Do Q', new=1)
    doc.xref_set_key(page.xref, 'Resources', f'<</XObject<</I {im} 0 R>>>>'); doc.xref_set_key(page.xref, 'Contents', f'{draw} 0 R')
    doc.save(path)


def test_guard(tmp_path):
    "Crash, hang and memory hog cost their own call, and a page with a picture of 432 MB its own page."
    image_bomb(tmp_path/'bomb.pdf')
    with Guard(worker, seconds=2, megabytes=300) as guard:
        for what,reason in (('crash','crashed'), ('hang','time limit'), ('hog','memory limit')):
            assert guard('before')=='before'
            with pytest.raises(Skip) as e: guard(what)
            assert e.value.reason==reason
        try: assert guard(str(tmp_path/'bomb.pdf'))>0             # a library may well manage
        except Skip as e: assert e.reason in ('memory limit','time limit')
        assert guard('after')=='after'
    with pytest.raises(Skip) as e: Guard(stuck, seconds=.1)('x')
    assert e.value.reason=='time limit' and 'stuck' in e.value.detail


def test_guard_leaves_no_process(tmp_path):
    children = lambda: {p.name for p in Path('/proc').iterdir() if p.name.isdigit() and f'\nPPid:\t{os.getpid()}\n' in status(p)}
    def status(p):
        try: return (p/'status').read_text()
        except OSError: return ''
    if not Path('/proc').exists(): pytest.skip('no /proc here')
    before = children(); guard = Guard(worker, seconds=5)
    for what in ('x','crash','x','hang','x'):
        guard.seconds = 1 if what=='hang' else 5
        try: guard(what)
        except Skip: pass
        assert len(children()-before)<=1
    del guard
    assert children()<=before
