"The package as others get it: names, requirements, sizes, and what it needs to be imported."
import configparser, re, subprocess, sys, tarfile, tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import MODULES, ROOT, finish, module_name, start

PROJECT = tomllib.loads((ROOT/'pyproject.toml').read_text('utf8'))['project']


def test_no_module_shadows_the_standard_library():
    assert not {p.stem for p in MODULES} & sys.stdlib_module_names


def test_names_and_imports():
    "No undefined name, no unused import: in modules, tools and tests."
    from pyflakes.api import check
    from pyflakes.reporter import Reporter
    import io
    out = io.StringIO()
    for p in [*MODULES, *(ROOT/'tools').glob('*.py'), *(ROOT/'tests').glob('*.py')]:
        check(p.read_text('utf8'), str(p.relative_to(ROOT)), Reporter(out, out))
    assert out.getvalue()==''


BARE = 'torch transformers accelerate numpy Pillow fonttools PyYAML safetensors tokenizers'

def closure(names):
    "These distributions and all that they need themselves."
    todo,seen = list(names.split()),set()
    while todo:
        name = canonicalize_name(todo.pop())
        if name in seen: continue
        try: more = requires(name) or []
        except PackageNotFoundError: continue
        seen.add(name)
        todo += [r.name for r in map(Requirement, more) if not r.marker or r.marker.evaluate({'extra':''})]
    return seen

HIDE = '''
import importlib, sys
class Hide:
    "The import system without the packages that are named."
    def __init__(self, finder, names): self.finder,self.names = finder,names
    def find_spec(self, name, *a):
        return None if name.partition('.')[0] in self.names else self.finder.find_spec(name, *a)
    def __getattr__(self, k): return getattr(self.finder, k)
sys.meta_path[:] = [Hide(f, set(sys.argv[1].split(','))) for f in sys.meta_path]
'''

TRAIN = HIDE + '''
for name in sys.argv[2].split(','): importlib.import_module(name)
from vary_nb.data.recipes import ShardStream
from vary_nb.train import TrainConfig, train
stream = ShardStream(sys.argv[3])
rows = train(TrainConfig(out=sys.argv[4], preset='micro', levels='1x4', steps=2, log_every=1, tokens=8, least=2, precision='no', device='cpu'),
             samples=lambda level, ids: [stream[i%len(stream)] for i in ids])
assert [r['step'] for r in rows if 'ms' in r]==[1,2], rows
assert not set(sys.argv[1].split(',')) & set(sys.modules)
'''

def test_a_training_machine_needs_little(tmp_path):
    "Import, read a shard and train two steps with torch, transformers and a few more: all other packages are hidden."
    from importlib.metadata import packages_distributions
    import numpy as np
    from PIL import Image
    from vary_nb.core import Sample
    from vary_nb.data.recipes import write_sample
    with tarfile.open(tmp_path/'a-00000.tar', 'w') as tar:
        for i in range(3): write_sample(tar, f'{i:08d}', Sample([Image.new('RGB', (128,32), 'white')], [('','ab'*i)], glyphs=np.zeros((0,5), np.int32)))
    bare = closure(BARE)
    hidden = {top for top,ds in packages_distributions().items() if top!='vary_nb' and not {canonicalize_name(d) for d in ds} & bare}
    assert {'pymupdf','gradio','matplotlib','IPython','fastcore','nbdev'}<=hidden and not {'torch','PIL','yaml','numpy'} & hidden
    modules = [module_name(p) for p in MODULES if p.parent.name=='model'] + ['vary_nb.train','vary_nb.data.recipes']
    status,_,err = finish(start('-c', TRAIN, ','.join(sorted(hidden)), ','.join(modules), tmp_path/'a-00000.tar', tmp_path/'out'))
    assert status==0, err[-1500:]


def lines(name):
    "The requirements in a file."
    return [Requirement(l) for l in (ROOT/name).read_text('utf8').splitlines() if l.strip() and not l.startswith('#')]

def test_requirements_agree():
    "What developers install is what the package asks for, tools included."
    ours = {canonicalize_name(r.name): r for r in lines('requirements-dev.txt')}
    theirs = [Requirement(r) for r in PROJECT['dependencies'] + PROJECT['optional-dependencies']['dev']]
    for r in theirs:
        mine = ours[canonicalize_name(r.name)]
        if mine.name=='torch': assert r.specifier.contains(str(mine.specifier).removeprefix('=='))
        else: assert str(mine)==str(r)
    assert set(ours)=={canonicalize_name(r.name) for r in theirs}
    assert {k: str(ours[k].specifier) for k in ('nbdev','fastcore','execnb')}=={'nbdev':'==2.4.14', 'fastcore':'<2,>=1.12.3', 'execnb':'<0.2,>=0.1.12'}


def test_settings_agree():
    import vary_nb
    ini = configparser.ConfigParser(); ini.read(ROOT/'settings.ini'); ini = ini['DEFAULT']
    assert ini['repo']==PROJECT['name'] and ini['lib_name']=='vary_nb'
    assert ini['description']==PROJECT['description'] and ini['keywords'].split()==PROJECT['keywords']
    assert PROJECT['requires-python']=='>='+ini['min_python']
    assert PROJECT['dynamic']==['version'] and ini['version']==vary_nb.__version__
    assert re.search(rf"^## .*{re.escape(vary_nb.__version__)}", (ROOT/'CHANGELOG.md').read_text('utf8'), re.M), 'no word about this version'


def committed():
    "The files of the repository, with their sizes."
    try: out = subprocess.run(['git','ls-files','-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError): pytest.skip('not a git checkout')
    return {f: (ROOT/f).stat().st_size for f in out.split('\0') if f and (ROOT/f).is_file()}

def test_the_tree_is_small():
    sizes = committed()
    assert sum(sizes.values())<50e6
    nano = {f:n for f,n in sizes.items() if f.startswith('vary_nb/weights/nano/')}
    assert {f.rpartition('/')[2] for f in nano} >= {'config.json','model.safetensors','README.md'}
    assert sum(n for f,n in nano.items() if not f.endswith('README.md'))<8e6
    assert not [f for f in sizes if f.endswith(('.pdf','.ttf','.otf','.tar','.pt','.pyc'))]
