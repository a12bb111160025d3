"What a stranger's LaTeX may try: nothing gets out, nothing hangs, everything is reported. Needs TeX (make system)."
import os, shutil, tempfile, time
from collections import Counter

import pytest

from helpers import finish, start
from vary_nb.core import BadInput
from vary_nb.data import typeset as ts
from vary_nb.data.latex import Atom, Block

needs_tex = pytest.mark.skipif(not shutil.which('pdftex'), reason='no TeX here: make system')
PLAIN = ts.TEMPLATES['article']


def block(*tex): return Block('paragraph', tuple(Atom(t, t) for t in tex))

GOOD = block('The','harbour','master','counted','the','boats.')


@pytest.fixture
def open_gate(monkeypatch):
    "The list of forbidden words is not the fence we rely on: take it away."
    import re
    monkeypatch.setattr(ts, '_BAD', re.compile('(?!)'))


def seen(run): return '\n'.join(p.get_text() for p in __import__('pymupdf').open(stream=run.pdf)) if run.pdf else ''


@needs_tex
def test_no_shell(open_gate, tmp_path):
    mine = tmp_path/'pwned'
    run = ts.typeset([GOOD, block('x', rf'\immediate\write18{{touch {mine}}}'), block('y', rf'\input{{|"touch {mine}"}}'), GOOD], PLAIN, seconds=5)
    assert not mine.exists() and 'harbour' in seen(run)


@needs_tex
def test_no_file_from_outside(open_gate, tmp_path):
    secret = tmp_path/'secret.tex'; secret.write_text('The combination is 17-16-04.')
    tries = [rf'\input{{{secret}}}', rf'\newread\r \openin\r={secret} \ifeof\r closed\else \read\r to\x \x\fi',
             r'\input{/etc/passwd}', rf'\input{{../{secret.parent.name}/secret}}', r'\openin5=/etc/passwd \read5 to\x \x']
    run = ts.typeset([GOOD, *(block('x', t) for t in tries), GOOD], PLAIN, seconds=5); text = seen(run)
    assert 'combination' not in text and 'root:' not in text and 'harbour' in text
    assert {k for k,_,_ in run.left_out}>={1,3,4}, run.left_out


@needs_tex
def test_nothing_is_written_outside(open_gate, tmp_path):
    before = set(os.listdir(tempfile.gettempdir()))
    tries = [rf'\immediate\openout5={tmp_path}/out.txt \immediate\write5{{x}}', r'\immediate\openout5=../out.txt \immediate\write5{x}', r'\immediate\openout5=.bashrc \immediate\write5{x}']
    run = ts.typeset([GOOD, *(block('x', t) for t in tries), GOOD], PLAIN, seconds=5)
    assert not list(tmp_path.iterdir()) and 'harbour' in seen(run)
    left = [n for n in set(os.listdir(tempfile.gettempdir()))-before if n.startswith('vary-tex-') or n=='out.txt']
    assert not left


@needs_tex
@pytest.mark.parametrize('tex,why', [(r'\def\x{\x}\x', 'time limit'), (r'\def\x{x\x}\x', 'TeX error'), (r'\def\x#1{{\x{#1#1}}}\x a', 'TeX error'),
                                     (r'\loop\iftrue\shipout\hbox{\vrule width 9pt height 9pt}\repeat', None), (r'\read-1 to\x', 'TeX error')],
                         ids=['endless','capacity','deep','pages without end','reads the terminal'])
def test_nothing_hangs(open_gate, tex, why):
    start = time.monotonic(); run = ts.typeset([GOOD, block('x', tex), GOOD], PLAIN, seconds=1, runs=8)
    assert [k for k,_,_ in run.left_out]==[1] and (why is None or run.left_out[0][1]==why), run.left_out
    assert 'harbour' in seen(run) and time.monotonic()-start<60


@needs_tex
def test_a_gigabyte_is_cut(open_gate, monkeypatch):
    cage = ts.limited; monkeypatch.setattr(ts, 'limited', lambda c, d, seconds: cage(c, d, seconds, output=3))
    run = ts.typeset([GOOD, block('x', r'\loop\immediate\write\VNf{'+'x'*500+r'}\iftrue\repeat'), GOOD], PLAIN, seconds=5, runs=8)
    assert run.left_out[0][:2]==(1,'output limit') and 'harbour' in seen(run)


@needs_tex
def test_all_of_them_are_refused_without_a_run():
    tries = [r'\immediate\write18{ls}', r'\input{/etc/passwd}', r'\openin5=x', r'\def\x{\x}\x', r'\loop\repeat', r'\read-1 to\x', '^^5cinput x', r'\csname input\endcsname x']
    run = ts.typeset([GOOD, *(block(t) for t in tries)], PLAIN)
    assert run.runs==1 and Counter(why for _,why,_ in run.left_out)=={'forbidden command': len(tries)}


@needs_tex
def test_many_errors_are_bounded():
    bad = [block('x', rf'\nothing{chr(97+k)}') for k in range(20)]
    run = ts.typeset([b for x in bad for b in (x, GOOD)], PLAIN)
    assert run.runs==2 and len(run.left_out)==20 and len(run.blocks)==20


def test_missing_tex_is_one_clear_line(monkeypatch, tmp_path):
    status,_,err = finish(start('-c', 'from vary_nb.data.latexpages import LatexPages; LatexPages()', env=dict(PATH=str(tmp_path), VARY_CACHE=str(tmp_path))))
    last = err.strip().split('\n')[-1]
    assert status and 'BadInput' in last and 'texlive-latex-recommended' in last and 'make system' in last


@needs_tex
def test_a_sample_is_a_function_of_seed_and_index():
    from vary_nb.data.latexpages import LatexPages
    import pickle
    kw = dict(templates='article', pages=4, seed=3, side=300); a = LatexPages(**kw); b = pickle.loads(pickle.dumps(a)); order = [2,0,5]
    first = {i: a[i] for i in order}; second = {i: b[i] for i in sorted(order)}
    assert all(first[i].text==second[i].text and first[i].images[0].tobytes()==second[i].images[0].tobytes() for i in order)
    assert LatexPages(**{**kw, 'seed':4})[0].text!=first[0].text
    with pytest.raises(BadInput, match='no readable source|no file found|nothing there'): LatexPages(sources=['/nothing/here'])
