"Conversations in other people's files, and questions of our own: what must hold for any input, not only for the chapters'."
import json, re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from helpers import finish, start
from vary_nb.core import BadInput, Sample, Skip, rng
from vary_nb.data import instruct
from vary_nb.data.instruct import Conversations, annotations, spans, write_conversations
from vary_nb.data.asking import KINDS, Chart, like, number, put
from vary_nb.data.questions import Page, Scene, converse, facts, once
from vary_nb.data.recipes import load_recipe

few = settings(max_examples=60, deadline=None)

# ---- files

value = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                     lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=8)
record = st.dictionaries(st.text(max_size=5), value, max_size=4)

@few
@given(st.lists(record, max_size=6), st.sampled_from([None,1]), st.booleans())
def test_spans_are_the_records(records, indent, ascii):
    data = json.dumps(records, indent=indent, ensure_ascii=ascii).encode('utf8', 'surrogatepass')
    assert [json.loads(data[a:b].decode('utf8', 'surrogatepass')) for a,b in spans(data)]==records


text = st.text(st.characters(codec='utf-8', exclude_categories=['Cs','Cc']), min_size=1, max_size=30).map(str.strip).filter(
    lambda t: t and '<image>' not in t)

@few
@given(st.lists(st.tuples(text, text), min_size=1, max_size=4), st.booleans(), st.sampled_from(['png','webp']))
def test_what_we_write_we_read(tmp_path_factory, turns, seen, fmt):
    "Line ends other than \\n are white space to the format; all else comes back."
    folder = tmp_path_factory.mktemp('written'); im = Image.fromarray(rng(len(turns)).integers(0, 256, (9,7,3)).astype(np.uint8))
    s = Sample([im]*seen, turns, 'qa', 'zh', dict(id=3, answers=['a']))
    assert write_conversations([s], folder, fmt)=={'written':1}
    back = Conversations(folder)[0]
    assert (back.turns, back.kind, back.lang, back.meta)==(s.turns, s.kind, s.lang, s.meta)
    assert [x.tobytes() for x in back.images]==[x.tobytes() for x in s.images]


def folder_of_one(tmp_path):
    "A picture and a valid file of each layout."
    (tmp_path/'images').mkdir(); Image.new('RGB', (8,8), 'red').save(tmp_path/'images/a.png')
    says = [{'from':'human', 'value':'<image>\n问 {[?'}, {'from':'gpt', 'value':'"yes" \\ 是'}]
    ask = dict(questionId=1, question='q?', image='images/a.png', answers=['x','y'], data_split='train')
    files = dict(conversation=[dict(image='a.png', conversations=says)]*3, chartqa=[dict(imgname='a.png', query='q?', label='[63, 26]')]*2,
                 docvqa=dict(dataset_split='train', data=[ask]*2),
                 mmvet={'v1_0': dict(imagename='a.png', question='q?', answer='a<AND>b', capability=['ocr'])})
    for name,content in files.items(): (tmp_path/f'{name}.json').write_text(json.dumps(content, ensure_ascii=False), encoding='utf8')
    return files


def test_layouts_are_told_apart(tmp_path):
    for name,content in folder_of_one(tmp_path).items():
        path = tmp_path/f'{name}.json'; engine = Conversations(path)
        assert annotations(path)[0]==name and engine[len(engine)-1].images[0].size==(8,8)
        turns = engine[0].turns; path.write_bytes(b'\xef\xbb\xbf'+path.read_bytes())   # a byte order mark, as some editors write it
        assert Conversations(path)[0].turns==turns, name


@pytest.mark.parametrize('name', ['conversation','chartqa','docvqa','mmvet'])
def test_damaged_files_are_refused_or_skipped(tmp_path, name):
    "Two hundred mutations: a sample, a reason, or one clear line; never anything else."
    folder_of_one(tmp_path); path = tmp_path/f'{name}.json'; good = path.read_bytes(); seen = {'sample':0, 'skip':0, 'refused':0}
    for k in range(200):
        r = rng(k, 'damage', name); data = bytearray(good); how = int(r.integers(4))
        at = int(r.integers(len(data)))
        if how==0: data = data[:at]
        elif how==1: data[at] = int(r.integers(256))
        elif how==2: del data[at:at+int(r.integers(1,20))]
        else: data[at:at] = bytes(r.choice(list(b'[]{}",:\\\0\xff9'), int(r.integers(1,4))).astype(np.uint8))
        path.write_bytes(data)
        try:
            engine = Conversations(path)
            for i in range(len(engine)):
                try: engine[i]; seen['sample'] += 1
                except Skip as e: seen['skip'] += 1; assert e.reason
        except BadInput as e: seen['refused'] += 1; assert '\n' not in str(e)
    assert seen['sample'] and seen['refused'] and (seen['skip'] or name=='mmvet'), seen  # one object: all or nothing


RECORD = dict(imgname='a.png', query='q?', label='a') # of ChartQA
WRONG = {'record is not an object': 7, 'record without a key': dict(imgname='a.png', label='a'),
         'picture is missing': {**RECORD, 'imgname':'b.png'}, 'picture outside its folder': {**RECORD, 'imgname':'../images/a.png'},
         'picture without a name': {**RECORD, 'imgname':['a.png']}, 'picture cannot be read': {**RECORD, 'imgname':'bad.png'},
         'question is empty': {**RECORD, 'query':' '}, 'question is not text': {**RECORD, 'query':3},
         'answer is not text': {**RECORD, 'label':3}, 'no answer': {**RECORD, 'label':None}}

@pytest.mark.parametrize('reason', WRONG)
def test_each_reason_has_its_name(tmp_path, reason):
    folder_of_one(tmp_path); (tmp_path/'images/bad.png').write_bytes(b'\x89PNG but no more')
    path = tmp_path/'train_human.json'; path.write_text(json.dumps([RECORD, WRONG[reason]])); engine = Conversations(path)
    with pytest.raises(Skip) as e: engine[1]
    assert e.value.reason==reason and engine[0].text=='a' and reason in engine.skipped[1]


def test_same_name_elsewhere_is_another_picture(tmp_path):
    "vg/2.jpg is not downloaded; gqa/2.jpg is there: a record that names the first must not get the second."
    for d in ('gqa','vg'): (tmp_path/d).mkdir()
    Image.new('RGB', (8,8)).save(tmp_path/'gqa/2.jpg')
    path = tmp_path/'a.json'; talk = [{'from':'human', 'value':'<image>?'}, {'from':'gpt', 'value':'!'}]
    path.write_text(json.dumps([dict(image='vg/2.jpg', conversations=talk), dict(image='gqa/2.jpg', conversations=talk)]))
    engine = Conversations([path, tmp_path/'gqa', tmp_path/'vg'])
    with pytest.raises(Skip, match='missing'): engine[0]
    assert engine[1].images


def test_a_whole_path_must_lead_into_a_named_folder(tmp_path):
    for d in ('ours','theirs'): (tmp_path/d).mkdir(); Image.new('RGB', (8,8)).save(tmp_path/d/'a.png')
    path = tmp_path/'ours/a.json'; path.write_text(json.dumps([{**RECORD, 'imgname':str(tmp_path/d/'a.png')} for d in ('ours','theirs')]))
    assert Conversations(path)[0].images and Conversations([path, tmp_path/'theirs'])[1].images
    with pytest.raises(Skip, match='missing'): Conversations(path)[1]


def test_full_disk_leaves_the_old_list(tmp_path, monkeypatch):
    s = Sample([Image.new('RGB', (4,4))], [('q','a')]); write_conversations([s], tmp_path)
    before = (tmp_path/'annotations.json').read_bytes()
    def full(*a): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(instruct, 'encode_image', full)
    with pytest.raises(OSError): write_conversations([s, s], tmp_path)
    assert (tmp_path/'annotations.json').read_bytes()==before and not list(tmp_path.rglob('*.part'))

# ---- questions

def printed(v, places, comma):
    "v / 10**places, by whole numbers alone."
    whole,rest = divmod(v, 10**places)
    return (f'{whole:,}' if comma else str(whole))+(f'.{rest:0{places}d}' if places else '')

@st.composite
def charts(draw):
    "Dictionaries whose numbers are printed in one of several ways."
    n,k,places = draw(st.integers(2,6)),draw(st.integers(1,3)),draw(st.integers(0,3))
    before,after,comma = draw(st.sampled_from(['','$','¥'])),draw(st.sampled_from(['','%',' kg','万元'])),draw(st.booleans())
    amount = st.integers(-10**6, 10**6).map(lambda v: '-'*(v<0)+before+printed(abs(v), places, comma)+after)
    names = draw(st.lists(st.text('abcdef年月', min_size=1, max_size=6), min_size=n+k, max_size=n+k, unique_by=str.casefold))
    values = [draw(st.lists(st.one_of(amount, amount, amount, st.none()), min_size=n, max_size=n)) for _ in range(k)]
    return dict(title='t', kind='bar', categories=names[:n], series=[dict(name=s, values=v) for s,v in zip(names[n:], values)])

def exact(text):
    "An independent reading of a number, as a fraction."
    return Fraction(re.sub('[^0-9.-]', '', text))

@few
@given(charts(), st.integers(0, 10**6))
def test_chart_answers_are_true(d, seed):
    "Every answer, against the dictionary, by other means than the module's."
    c = Chart(d)
    value = {c.cell(k, j, 'en'): v for k,s in enumerate(d['series']) for j,v in enumerate(s['values']) if v is not None}
    rows = {c.of(k, 'en'): s['values'] for k,s in enumerate(d['series'])}
    for name in ('value','sum','difference','compare','highest','lowest','maximum','total','above','which'):
        found = KINDS[name][1](c, rng(seed, name), 'en')
        if found is None: continue
        answer,slots = found
        if 'a' in slots and name!='which': a = exact(value[slots['a']])
        if 'b' in slots: b = exact(value[slots['b']])
        if 'of' in slots: row = rows[slots['of']]; assert None not in row or name=='which'; numbers = [exact(v) for v in row]
        if name=='value': assert answer==value[slots['a']]
        elif name=='sum': assert exact(answer)==a+b
        elif name=='difference': assert exact(answer)==abs(a-b)
        elif name=='compare': assert a!=b and answer==('Yes' if a>b else 'No')
        elif name in ('highest','lowest'):
            best = (max if name=='highest' else min)(numbers)
            assert numbers.count(best)==1 and answer==d['categories'][numbers.index(best)]
        elif name=='maximum': assert exact(answer)==max(numbers) and answer in row
        elif name=='total': assert exact(answer)==sum(numbers)
        elif name=='above': assert int(answer)==sum(n>exact(slots['v']) for n in numbers)
        elif name=='which': assert row.count(slots['v'])==1 and answer==d['categories'][row.index(slots['v'])]
        if name in ('sum','difference','total'):                       # printed as the chart prints: same words and places
            shown = next(iter(value.values())); bare = lambda t: re.sub(r'[\d,-]', '', t)
            assert bare(answer)==bare(shown) and len(answer.partition('.')[2])==len(shown.partition('.')[2])


@few
@given(st.integers(0, 10**9), st.integers(0,4), st.booleans(), st.sampled_from(['','%',' m','亿']), st.booleans())
def test_numbers_print_as_they_were_read(v, places, comma, after, minus):
    text = '-'*(minus and v>0)+printed(v, places, comma)+after
    assert like(*number(text)[:2], comma)==text


words = st.text('abcde', min_size=2, max_size=3); han = st.text('船港口数夜灯', min_size=4, max_size=12)
lines = st.lists(st.one_of(st.lists(words, min_size=2, max_size=6).map(' '.join), han), min_size=2, max_size=6)

@few
@given(lines, st.integers(0, 10**6))
def test_what_a_page_question_quotes_is_there_once(lines, seed):
    page = Page('\n'.join(lines)); spaced,glued = ' '.join(lines),''.join(lines)
    for name in ('line_after','line_before','word_after'):
        if (found := KINDS[name][1](page, rng(seed, name), 'en')) is None: continue
        answer,quoted = found[0],found[1]['a']
        assert len(re.findall(f'(?={re.escape(quoted)})', spaced))==1 and once(quoted, page)
        if name=='word_after': assert quoted+answer in spaced.replace(f'{quoted} ', quoted)
        else:
            at = next(k for k,l in enumerate(lines) if l.startswith(quoted))
            assert answer==lines[at+(1 if name=='line_after' else -1)]
    if found := KINDS['times'][1](page, rng(seed, 'times'), 'en'):
        w = found[1]['a']; assert int(found[0])==(len(re.findall(rf'\b{w}\b', spaced)) if w.isascii() else glued.count(w))


names = st.sampled_from(['cat 猫','dog 狗','red kite 红色风筝','house 房子','elephant seal 象海豹'])
things = st.lists(st.tuples(names, st.integers(0,300)), max_size=5)

@few
@given(things, st.integers(0, 10**6), st.sampled_from(['en','zh']))
def test_scene_answers_are_true(things, seed, lang):
    objects = [dict(zip(('en','zh'), n.rsplit(' ', 1)), box=[x,0,x+30,30]) for n,x in things]; s = Scene(objects)
    names = [o[lang] for o in objects]; ask = lambda name: KINDS[name][1](s, rng(seed, name), lang)
    if found := ask('there'):
        a,yes = found[1]['a'],found[0] in ('Yes','有'); assert yes==(a in names)
        assert yes or not set(a.split() if lang=='en' else a)&set(' '.join(names).split() if lang=='en' else ''.join(names))
    if found := ask('count'): assert int(found[0])==names.count(found[1]['a'])
    for name,best in (('leftmost',min), ('rightmost',max)):
        if found := ask(name):
            edge = best(o['box'][0] for o in objects); assert [o[lang] for o in objects if o['box'][0]==edge]==[found[0]]
    if found := ask('beside'):
        left = {'left of':-1, '左边':-1}.get(found[1]['side'], 1); here = [o['box'][0] for o in objects if o[lang]==found[1]['a']]
        assert len(here)==1
        beyond = sorted((abs(o['box'][0]-here[0]), o[lang]) for o in objects if (o['box'][0]-here[0])*left>0)
        assert beyond[0][1]==found[0]


@pytest.mark.parametrize('name', KINDS)
def test_phrasings(name):
    "At least two a language, all different, each ends like a sentence, and each has the same slots."
    _,_,phrasings = KINDS[name]; slots = {frozenset(re.findall(r'{(\w+)}', p)) for ps in phrasings.values() for p in ps}
    assert len(slots)==1, 'a phrasing lacks a slot'
    for lang,ps in phrasings.items():
        assert len(set(ps))==len(ps)>=2 and all(p[-1] in '?.？。' for p in ps)
        assert all(bool(re.search('[\u4e00-\u9fff]', p))==(lang=='zh') for p in ps)


def test_answers_may_hold_braces():
    chart = dict(title='{x} of {of}', categories=['{a}','b{'], series=[dict(name='s', values=[1,2])])
    for seed in range(60): converse(facts(Sample([], [], 'chart', meta=dict(chart=chart))), rng(seed), 'en')
    assert put('title', Chart(chart), rng(0))[1]=='{x} of {of}'


BAD_CHARTS = ({}, dict(title='t', categories=['a'], series='s'), dict(title=5, categories=['a'], series=[dict(name='s', values=[1])]),
              dict(title='t', categories=['a','b'], series=[dict(name='s', values=[1])]), dict(title='t', categories=['a'], series=[dict(name='s')]),
              dict(title='t', categories=['a'], series=['s']), dict(title='t', categories=['a'], series=[dict(name='s', values=5)]))

@pytest.mark.parametrize('d', BAD_CHARTS, ids=range(len(BAD_CHARTS)))
def test_bad_chart(d):
    with pytest.raises(BadInput, match='chart dictionary'): Chart(d)


RECIPE = '''
name: asked
samples: 6
parts:
- engine: vary_nb.data.questions:Questions
  settings: {of: TextPages, settings: {lang: zh, lines: [2, 5], random_share: 0}, lang: both, turns: [1, 2], size: [120, 400]}
'''
DRAW = '''
import json, sys
from vary_nb.data.recipes import load_recipe
stream = load_recipe(sys.argv[1]).stream(seed=3); order = range(6) if sys.argv[2]=='up' else range(5, -1, -1)
print(json.dumps({i: [s.turns, s.meta, s.images[0].size] for i in order for s in [stream[i]]}, sort_keys=True))
'''

def test_in_a_recipe_and_in_any_order(tmp_path):
    path = tmp_path/'asked.yaml'; path.write_text(RECIPE)
    runs = [start('-c', DRAW, path, order, env=dict(PYTHONHASHSEED=hashes)) for order,hashes in (('up','1'), ('down','2'))]
    results = [finish(p) for p in runs]
    assert [status for status,_,_ in results]==[0,0], results[0][2][-500:]
    here,there = [json.loads(out) for _,out,_ in results]
    assert here==there and len(here)==6 and all(size==[400,120] for _,_,size in here.values())
    assert len({json.dumps(turns) for turns,_,_ in here.values()})==6
    s = load_recipe(path).stream(seed=4)[0]; assert s.kind=='qa' and s.meta['about']=='document' and s.meta['kinds']
