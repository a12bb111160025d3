"A sample is a function of (settings, seed, number): of nothing else."
import json

from helpers import ROOT, finish, start

RECIPE = ROOT/'data_recipes/ci.yaml'

DRAW = '''
import hashlib, json, sys
from vary_nb.data.recipes import load_recipe
path,seed,order = sys.argv[1], int(sys.argv[2]), sys.argv[3]
stream = load_recipe(path).stream(seed=seed)
numbers = range(len(stream)) if order=='up' else range(len(stream)-1, -1, -1)
rows = {}
for i in numbers:
    s = stream[i]; glyphs = b'' if s.glyphs is None else s.glyphs.tobytes()
    rows[i] = hashlib.sha256(s.images[0].tobytes() + s.text.encode() + glyphs + json.dumps(s.meta, sort_keys=True).encode()).hexdigest()
print(json.dumps(rows, sort_keys=True))
'''

def test_seed_and_number_alone_decide():
    "Other process, other hash seed, other order, other time zone: the same bytes. Other seed: other bytes, every one."
    runs = [start('-c', DRAW, RECIPE, seed, order, env=dict(PYTHONHASHSEED=hashes, TZ=zone))
            for seed,order,hashes,zone in ((5, 'up', '1', 'UTC'), (5, 'down', '2', 'Asia/Shanghai'), (6, 'up', '1', 'UTC'))]
    results = [finish(p) for p in runs]
    assert [status for status,_,_ in results]==[0,0,0], [err[-500:] for *_,err in results]
    here,there,other = [json.loads(out) for _,out,_ in results]
    assert len(here)==24 and here==there
    assert not set(here.values()) & set(other.values()) and len(set(here.values()))==24
