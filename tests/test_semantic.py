"Charts that mean something: laws in the truth as drawn, same bytes everywhere, a language model that misbehaves; scores of charts."
import http.server, json, os, re, stat, threading, time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from helpers import finish, start
from vary_nb.core import BadInput, Skip, rng
from vary_nb.data.charts import FORMS, Style
from vary_nb.data.semantic import SHAPES, TOPICS, SemanticCharts, Wish, from_topics, to_spec
from vary_nb.metrics import chart_number, chart_score, read_chart

SOUTH = {'Sydney','Cape Town','Buenos Aires','Wellington','Perth','悉尼','开普敦','布宜诺斯艾利斯','惠灵顿','珀斯'}
cents = lambda v: Fraction(re.sub('[^0-9.-]', '', v)) # a printed value, exactly


def test_every_topic_in_both_languages():
    "Whatever is drawn is a chart: checked, of the language, within the wish; and all topics come up."
    seen = Counter()
    for k in range(3600):
        wish = Wish(('en','zh')[k%2], list(FORMS)[k//2%9], 3+k%10, 1+k%4); c = from_topics(rng(7, k), wish); s = to_spec(c, Style()); seen[c['topic'],c['lang']] += 1
        assert len(s.categories)<=wish.n and len(s.series)<=max(wish.k, 2) and len({(t['name'], *t['values']) for t in s.series})==len(s.series)
        assert wish.form in SHAPES[TOPICS[c['topic']].shape][1]
    assert len(seen)==2*len(TOPICS)>=80, [t for t in TOPICS for l in ('en','zh') if not seen[t,l]]
    assert len({from_topics(rng(k), Wish(form='line'))['title'] for k in range(200)})>120


@pytest.mark.parametrize('library', ('matplotlib','pyecharts'))
def test_laws_hold_in_the_truth(library):
    "From the dictionary beside the picture alone, exactly, with an own account of each law."
    if library=='pyecharts':
        from vary_nb.data.echarts import find_echarts
        try: find_echarts()
        except BadInput as e: (pytest.fail if os.environ.get('CI') else pytest.skip)(str(e))
    engine,seen,skips = SemanticCharts(library=library, lang='both', seed=3),Counter(),Counter()
    for i in range(70):
        try: s = engine[i]
        except Skip as e: skips[e.reason] += 1; continue
        d,t = s.meta['chart'],TOPICS[s.meta['topic']]; rows = [[cents(v) for v in r['values']] for r in d['series']]; seen[t.shape] += 1
        assert json.loads(s.text)['title']==d['title'] and s.kind=='chart'
        if t.shape=='share': assert sum(rows[0])==100
        elif t.shape=='mix': assert {sum(c) for c in zip(*rows)}=={100}
        elif t.shape=='split': assert sum(rows[0][:-1])==rows[0][-1] and d['categories'][-1] in ('Total','合计')
        elif t.name in ('turnover','exports'): assert all(abs((b/a-1)*100-g)<=Fraction('.06') for a,b,g in zip(rows[0], rows[0][1:], rows[1][1:]))
        elif t.name=='temperature':
            names = [r['name'] for r in d['series']] if len(rows)>1 else [n for n in SOUTH if n in d['title']] or ['north']
            for name,r in zip(names, rows): assert (r[0]>r[len(r)//2])==(name in SOUTH), (d['title'], r)
        elif t.name in ('solar_power','electric_cars'): assert all(a<=b for r in rows for a,b in zip(r, r[1:]))
    assert len(seen)>=7 and skips.total()<=10, (seen, skips)


DRAW = '''
import hashlib, json, sys
from vary_nb.data.semantic import SemanticCharts
engine = SemanticCharts(lang='both', seed=int(sys.argv[1])); rows = {}
for i in json.loads(sys.argv[2]):
    s = engine[i]; rows[i] = hashlib.sha256(s.images[0].tobytes()+s.text.encode()+json.dumps(s.meta, sort_keys=True).encode()).hexdigest()
print(json.dumps(rows, sort_keys=True))
'''

def test_order_and_process_do_not_matter():
    jobs = [start('-c', DRAW, 5, json.dumps(order), env=dict(PYTHONHASHSEED=h)) for order,h in (([0,1,3,4], '1'), ([4,3,1,0], '2'))]
    out = [finish(p) for p in jobs]; assert [s for s,*_ in out]==[0,0], [e[-400:] for *_,e in out]
    assert out[0][1]==out[1][1]


# --- a language model behind a server on this machine

GOOD = dict(title='Bread sold by the Old Mill', source='Till', category_axis='Kind', value_axis='Share', second_axis='', decimals=1,
            categories=['Rye','Wheat','Spelt'], series=[dict(name='', values=[50,30.4,19.7])])
KEY = 'sk-a-secret-that-must-not-appear'

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def __init__(self, moods): self.moods,self.asked = list(moods),[]; super().__init__(('127.0.0.1', 0), Handler); threading.Thread(target=self.serve_forever, daemon=True).start()
    def handle_error(self, *a): pass

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def reply(self, status, body, retry=None):
        data = json.dumps(body).encode(); self.send_response(status); self.send_header('Content-Length', str(len(data))); self.send_header('Content-Type', 'application/json')
        if retry: self.send_header('Retry-After', retry)
        self.end_headers(); self.wfile.write(data)
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length']))); s = self.server; s.asked.append((self.path, body, self.headers.get('Authorization')))
        mood = s.moods.pop(0) if s.moods else 'good'; error = lambda what, **kw: dict(error=dict(message=f"{what} {self.headers['Authorization']}", **kw))
        if mood.isdigit(): return self.reply(int(mood), error('no'), '0')
        if mood=='quota': return self.reply(429, error('insufficient_quota: pay first', code='insufficient_quota'))
        if mood=='plain' and 'response_format' in body: s.moods.insert(0, 'plain'); return self.reply(400, error('response_format'))
        if mood=='slow': time.sleep(1)
        text = dict(malformed='{"title": "Bre', lengths=json.dumps({**GOOD, 'series':[dict(name='', values=[100])]}), sums=json.dumps({**GOOD, 'series':[dict(name='', values=[50,30,40])]}),
                    words='Sorry, no.', nan=json.dumps(GOOD).replace('30.4', 'NaN'), deep='{"a":'*20000).get(mood, json.dumps(GOOD))
        message = dict(role='assistant', content=None, refusal='I would rather not') if mood=='refusal' else dict(role='assistant', content=text)
        reason = 'content_filter' if mood=='filter' else 'stop'
        self.reply(200, dict(id='x', object='chat.completion', created=1, model='m', choices=[dict(index=0, finish_reason=reason, message=message)],
                             usage=dict(prompt_tokens=100, completion_tokens=50, total_tokens=150)))


@pytest.fixture
def model(tmp_path, monkeypatch):
    "model(moods, settings) -> (generator, server)"
    from vary_nb.data.llm import LLMGenerator
    monkeypatch.setenv('OPENAI_API_KEY', KEY); servers = []
    def make(*moods, **kw):
        servers.append(s := Server(moods)); url = f'http://127.0.0.1:{s.server_address[1]}/v1'
        return LLMGenerator('m', url, tmp_path/'cache', **{**dict(distinct=3, tries=3, wait=.01, timeout=5), **kw}), s
    yield make
    for s in servers: s.shutdown(); s.server_close()

PIE = Wish('en', 'pie', 6, 1)

@pytest.mark.parametrize('moods, requests', [('good', 1), ('malformed good', 2), ('lengths sums good', 3), ('nan good', 2), ('deep good', 2), ('refusal good', 2), ('filter words good', 3),
                                             ('429 good', 2), ('503 500 good', 3), ('plain', 3)])
def test_a_model_that_comes_round(model, moods, requests):
    gen,server = model(*moods.split()); c = gen.content(0, PIE)
    assert sum(map(Fraction, map(str, c['series'][0]['values'])))==100 and len(server.asked)==requests
    assert {p for p,*_ in server.asked}=={'/v1/chat/completions'} and server.asked[0][1]['response_format']['type']=='json_schema' and server.asked[0][2]==f'Bearer {KEY}'
    assert gen.content(0, PIE)==c and len(server.asked)==requests                                        # the second time is free


@pytest.mark.parametrize('moods, reason', [('malformed lengths words', 'model wrote no chart'), ('refusal refusal refusal', 'model refused'),
                                           ('429 429 429', 'model did not answer'), ('500 502 503', 'model did not answer')])
def test_a_model_that_does_not(model, moods, reason):
    "A verdict is kept and not asked for again; no answer is asked for at the next build."
    gen,server = model(*moods.split())
    with pytest.raises(Skip) as e: gen.content(0, PIE)
    assert e.value.reason==reason and len(server.asked)==3
    if reason=='model did not answer': assert gen.content(0, PIE)['title']==GOOD['title']
    else:
        with pytest.raises(Skip, match=reason): gen.content(0, PIE)
        assert len(server.asked)==3 and gen.bill()['read']==300


def test_a_slow_model(model):
    gen,server = model('slow','slow', timeout=.2, tries=2); begun = time.monotonic()
    with pytest.raises(Skip, match='did not answer: APITimeoutError'): gen.content(0, PIE)
    assert time.monotonic()-begun<3


@pytest.mark.parametrize('mood, says', [('401', 'check OPENAI_API_KEY'), ('403', 'check OPENAI_API_KEY'), ('404', 'status 404'), ('quota', 'insufficient_quota')])
def test_mistakes_stop_the_build_and_the_key_stays_secret(model, mood, says, tmp_path, capsys):
    import pickle, traceback
    gen,server = model(mood)
    try: gen.content(0, PIE); pytest.fail('no error')
    except BadInput as e: told = ''.join(traceback.format_exception(e)); assert says in str(e) and '\n' not in str(e)
    assert len(server.asked)==1 and gen.content(1, PIE)
    kept = told+''.join(map(str, capsys.readouterr()))+repr(vars(gen))+''.join(p.read_text() for p in (tmp_path/'cache').iterdir())
    assert KEY not in kept and KEY.encode() not in pickle.dumps(gen)


def test_the_engine_over_a_cache(model):
    "Same bytes without the server; no part of a file is left; the price is what was used."
    gen,server = model(price=(10,20)); engine = SemanticCharts(gen, kinds='pie', seed=2); first = [engine[i].images[0].tobytes() for i in range(6)]; n = len(server.asked)
    gen.base_url = 'http://127.0.0.1:9/v1'; again = SemanticCharts(gen, kinds='pie', seed=2); assert [again[i].images[0].tobytes() for i in range(6)]==first
    assert len(server.asked)==n and {p.suffix for p in gen.cache.iterdir()}=={'.json'}
    bill = gen.bill(); assert (bill['requests'], bill['price'])==(n, pytest.approx(n*(100*10+50*20)/1e6)) and n<=6
    assert all(not stat.S_IMODE(p.stat().st_mode)&0o022 for p in gen.cache.iterdir())


def test_two_processes_keep_one_answer(model):
    "Eight threads ask for the same content at once: all of them use the answer that was kept."
    gen,server = model(); out = []
    threads = [threading.Thread(target=lambda: out.append(gen.content(0, PIE))) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join(20)
    assert len(out)==8 and all(c==out[0] for c in out) and len(list(gen.cache.iterdir()))==1


# --- reading and scoring

def test_scores_of_drawn_charts():
    "The truth of every chart scores 1 against itself, in both forms of text; a changed value costs one entry."
    engine = SemanticCharts(lang='both', seed=8)
    for i in range(60):
        spec = engine.spec(i)[0]; paper,one = spec.truth(),spec.truth('onechart'); n = sum(len(s['values']) for s in spec.series)
        assert chart_score(json.dumps(paper, ensure_ascii=False), repr(one))==(1,1,1,1,1), paper
        values = read_chart(json.dumps(paper))['values']; row = next((v for v in values.values() if isinstance(v, dict)), values); k = next(iter(row))
        row[k] = str(chart_number(row[k])*1.5+1); s = chart_score(dict(title='', values=values), paper)
        assert s.recall==pytest.approx(1-1/n) and s.precision==s.recall and s.title==0, (paper, values)


def test_reading_is_bounded():
    "Long, deep and hostile texts: no crash, and time in proportion to length."
    r = np.random.default_rng(0); pieces = ['{','}','[',']',':',',','"',"'",'“','\\','a',' ','1,200','，','：','\n']
    begun = time.process_time()
    for _ in range(300): read_chart(''.join(r.choice(pieces, 400)))
    for p in pieces: read_chart('{'+p*60_000); read_chart('{"a": "'+p*60_000)
    for a in pieces:
        for b in pieces: read_chart('{'+(a+b)*2000)
    assert time.process_time()-begun<8
    assert chart_number('9'*10**6) is None and chart_score('{'*10**5, '{"title":"","data":{"a":"1"}}').f1==0
