"Charts: the truth is what is drawn; the same bytes everywhere; no browser, no node, no TeX; V8 ends."
import json, os, subprocess, sys
from collections import Counter

import numpy as np
import pytest

from helpers import ROOT, child_env, finish, start
from vary_nb.core import BadInput, Skip, rng
from vary_nb.data.charts import FORMS, PALETTES, Charts, ChartSpec, Format, Style, overlap, render, renderer

LIBRARIES = ('matplotlib','pyecharts')
BOTH = pytest.mark.parametrize('library', LIBRARIES)


@pytest.fixture(scope='module', autouse=True)
def echarts():
    "echarts.min.js from the cache; where it is missing, CI fails and others are told what to do."
    from vary_nb.data.echarts import find_echarts
    try: yield find_echarts()
    except BadInput as e: (pytest.fail if os.environ.get('CI') else pytest.skip)(str(e))


def said_by(meta, lang):
    "All texts that a chart with this dictionary shows, as characters: an own account, beside `expected`."
    d = meta; out = [d['title'], (('数据来源：' if lang=='zh' else 'Source: ')+d['source']) if d['source'] else '', *(d['axes'] if d['kind']!='pie' else [])]
    out += [t for row in d['ticks'] for t in row]+d['categories']+[s['name'] for s in d['series'] if len(d['series'])>1]
    out += [v for s in d['series'] for v in s['values'] if d['shown'] or d['kind']=='pie']
    return Counter(ch for t in out for ch in t if ch not in ' :：')


@BOTH
def test_truth_is_what_is_drawn(library):
    "Every character, forty charts, both languages; no text over another, none outside."
    engine,langs = Charts(library, 'both', seed=21),Counter()
    for i in range(40):
        try: im,spec,drawn = render(engine.spec(i)[0], library)
        except Skip: continue
        langs[spec.lang] += 1; (h,w),px = spec.style.size,spec.style.px
        assert Counter(ch for t,_ in drawn for ch in t if ch not in ' :：')==said_by(spec.meta(), spec.lang), (i, spec.meta())
        corners = np.array([q for _,q in drawn]); assert corners.min()>-1 and corners[...,0].max()<w+1 and corners[...,1].max()<h+1
        deep = max((overlap(corners[a], corners[b]) for a in range(len(corners)) for b in range(a)), default=0); assert deep<=.15*px, (i, deep)
    assert min(langs.values())>=12


def test_values_of_the_page_are_heights():
    "Outlines of the bars on the echarts page against the dictionary."
    r = renderer('pyecharts')
    from vary_nb.data.charts import axis_ticks, plan
    for seed in range(5):
        v = [float(x) for x in rng(seed).integers(10, 990, 5)]; spec = ChartSpec('Heights', list('ABCDE'), [dict(name='', values=v)], x='Letters', y='Numbers')
        r.draw(spec); box,top = plan(spec).box,axis_ticks(spec)[0][-1]
        blue = [d['rect'] for d in r.page.get_drawings() if d.get('fill') and np.allclose(d['fill'], [int(PALETTES['classic'][3][0][k:k+2], 16)/255 for k in (1,3,5)], atol=.01)]
        got = [b.height/(box[3]-box[1])*top for b in sorted(blue, key=lambda b: b.x0)]; assert np.allclose(got, v, atol=.005*top), (got, v)


DRAW = '''
import hashlib, json, sys
from vary_nb.data.charts import Charts
engine = Charts('both', 'both', seed=int(sys.argv[1])); rows = {}
for i in json.loads(sys.argv[2]):
    s = engine[i]; rows[i] = hashlib.sha256(s.images[0].tobytes()+s.text.encode()+json.dumps(s.meta, sort_keys=True).encode()).hexdigest()
print(json.dumps(rows, sort_keys=True))
'''

def test_order_and_process_do_not_matter():
    "Up, down, alone, another hash seed: the same bytes. Another seed: others. And every process ends, with V8 open."
    up = list(range(12)); runs = [start('-c', DRAW, seed, json.dumps(order), env=dict(PYTHONHASHSEED=h)) for seed,order,h in ((5, up, '1'), (5, up[::-1], '2'), (5, [7], '3'), (6, up, '1'))]
    out = [finish(p, 240) for p in runs]; assert [s for s,*_ in out]==[0]*4, [e[-400:] for *_,e in out]
    a,b,alone,other = [json.loads(o) for _,o,_ in out]
    assert a==b and alone['7']==a['7'] and not set(a.values())&set(other.values()) and len(set(a.values()))==12


def test_without_a_path():
    "No browser, no node, no TeX: PATH is empty."
    code = '''
from vary_nb.data.charts import FORMS, Charts
for library in ('matplotlib','pyecharts'):
    for form in FORMS: assert Charts(library, 'zh', kinds=[form])[1].images[0].size[0]>300
print('drawn')'''
    p = subprocess.run([sys.executable, '-c', code], env=child_env(PATH=''), cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert (p.returncode, p.stdout.strip())==(0,'drawn'), p.stderr[-500:]


def test_without_echarts(tmp_path):
    "One line that says what to do."
    env = child_env(VARY_CACHE=str(tmp_path)); env.pop('VARY_ECHARTS', None)
    p = subprocess.run([sys.executable, '-c', "from vary_nb.data.charts import Charts; Charts('pyecharts')"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert p.returncode and 'BadInput' in p.stderr.splitlines()[-1] and 'vary-nb data setup' in p.stderr.splitlines()[-1]


def hashed(im):
    "Perceptual hash: signs of the 63 lowest frequencies of a picture of 32 x 32 against their median."
    a = np.asarray(im.convert('L').resize((32,32)), float); k = np.arange(32); dct = np.cos(np.pi/32*(k[None]+.5)*k[:,None])
    low = (dct@a@dct.T)[:8,:8].ravel()[1:]; return low>np.median(low)

def test_charts_differ():
    "No two of 48 charts look alike; at least forty combinations of looks."
    engine,seen,looks,i = Charts('both', 'both', seed=2),[],set(),0
    while len(seen)<48:
        try: s = engine[i]
        except Skip: i += 1; continue
        i += 1; seen.append(hashed(s.images[0])); looks.add(tuple(s.meta[k] for k in ('library','palette','legend','grid','frame','font')))
    apart = min(int((a!=b).sum()) for n,a in enumerate(seen) for b in seen[:n]); assert apart>=6 and len(looks)>=40, (apart, len(looks))


@BOTH
@pytest.mark.parametrize('size', [(128,384), (256,256)])
def test_small_charts(library, size):
    "What a small model sees: the size asked for, few entries, values printed, text of 14 pixels at least."
    engine,made = Charts(library, 'both', size=size),0
    for i in range(15):
        try: s = engine[i]
        except Skip: continue
        made += 1; d = s.meta['chart']; assert s.images[0].size==size[::-1] and s.meta['px']>=14 and len(d['categories'])<=4 and (d['shown'] or d['kind']=='pie')
    assert made>=10


@BOTH
@pytest.mark.parametrize('lang', ['en','zh'])
@pytest.mark.parametrize('form', FORMS)
def test_every_form(library, lang, form):
    "All forms in both languages, with an answer that is JSON."
    s = next(s for s in (attempt(Charts(library, lang, kinds=[form]), i) for i in range(9)) if s)
    assert s.kind=='chart' and s.lang==lang and s.meta['chart']['kind']==FORMS[form] and json.loads(s.text)['title']==s.meta['chart']['title']

def attempt(engine, i):
    try: return engine[i]
    except Skip: return None


def test_numbers_print_alike():
    "Thousands, percent, 万, 亿 on both pictures."
    for f,values in ((Format(0,True), [1200,31,45678]), (Format(1,after='%'), [12.5,60,27.5]), (Format(1,after='万'), [1.5,20,3.4]), (Format(2,after='亿'), [1.25,2,.5]), (Format(1,before='$',after='M'), [1.5,2,2.5])):
        spec = ChartSpec('数', ['甲','乙','丙'], [dict(name='', values=values)], lang='zh', formats=(f,), style=Style((400,700)))
        for library in LIBRARIES: assert {f(v) for v in values}<={t for t,_ in render(spec, library)[2]}


def test_a_pyecharts_chart_of_the_user():
    "Any chart with a formatter in JavaScript, a theme and a gradient."
    from pyecharts import options as opts
    from pyecharts.charts import Line
    from pyecharts.commons.utils import JsCode
    from vary_nb.data.echarts import Browserless
    c = (Line().add_xaxis(['a','b','c']).add_yaxis('s', [3,1,2], label_opts=opts.LabelOpts(formatter=JsCode("function(p) { return '<' + p.value[1] + '>'; }")),
         areastyle_opts=opts.AreaStyleOpts(color=JsCode("new echarts.graphic.LinearGradient(0, 0, 0, 1, [{offset: 0, color: 'red'}, {offset: 1, color: '#ffffff'}])".replace("'red'", "'#ff0000'")))))
    with Browserless() as b:
        im = b.picture(c.dump_options(), (300,400), theme='dark'); text = b.page_of(c.dump_options(), (300,400)).get_text()
        assert all(f'<{v}>' in text for v in (1,2,3)) and np.asarray(im).reshape(-1,3)[0].sum()<200
