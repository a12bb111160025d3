"The command as scripts use it: exit codes, standard output, one JSON line a page."
import json, shutil, sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from PIL import Image

from helpers import ROOT, finish, make_pdf, start

COMMANDS = ['read', 'data setup', 'data get', 'data build', 'data show', 'data check', 'train', 'eval', 'demo', 'info']
KEYS = {'file':str, 'page':int, 'text':str, 'seconds':float, 'stopped':str}


@pytest.mark.parametrize('command', COMMANDS)
def test_help(command, vary):
    status,out,err = vary(*command.split(), '--help')
    assert status==0 and not err and f'vary-nb {command}' in out and 'example' in out

def test_help_of_all(vary):
    status,out,_ = vary('--help')
    assert status==0 and all(f' {c.split()[0]} ' in out for c in COMMANDS) and 'exit code' in out

def test_entry_point():
    "The installed command, if the package is installed, is this `main`."
    ours = [e for e in entry_points(group='console_scripts') if e.name=='vary-nb']
    if not ours: pytest.skip('the package is not installed here: pip install -e .')
    assert ours[0].value=='vary_nb.cli:main'
    assert shutil.which('vary-nb', path=Path(sys.executable).parent)


def records(out):
    "The JSON lines of an output, checked."
    rows = [json.loads(l) for l in out.splitlines()]
    for r in rows:
        for k,t in KEYS.items(): assert isinstance(r[k], t), (k, r)
    return rows

def test_read_in_a_process(tmp_path, micro):
    "`vary-nb read FILE.pdf --pages 1 --to text --json`: one line on standard output, nothing else there."
    pdf = make_pdf(tmp_path/'three.pdf', pages=3)
    status,out,err = finish(start('-c', 'import sys; from vary_nb.cli import main; sys.exit(main())', 'read', pdf, '--pages', '1', '--to', 'text',
                                  '--json', '--weights', micro))
    assert status==0, err
    row, = records(out)
    assert Path(row['file']).name=='three.pdf' and row['page']==1 and row['seconds']>0 and row['stopped']
    assert 'Traceback' not in err and 'Warning' not in err

def test_pages(tmp_path, vary, micro):
    pdf = make_pdf(tmp_path/'three.pdf', pages=3, lines=['Only a few words.'])
    read = lambda *a: vary('read', pdf, '--json', '--weights', micro, *a)
    assert [r['page'] for r in records(read()[1])]==[1,2,3]
    assert [r['page'] for r in records(read('--pages', '3,1-2')[1])] in ([3,1,2], [1,2,3])
    for wrong,codes in (('4', (1,2)), ('0', (1,2)), ('two', (1,2)), ('-1', (1,2))):
        status,out,err = read(f'--pages={wrong}')
        assert status in codes and not out and wrong in err and 'Traceback' not in err

def test_text_is_the_text(tmp_path, vary, micro):
    "Without --json standard output carries what --json calls text."
    im = tmp_path/'dot.png'; Image.new('RGB', (64,32), 'white').save(im)
    plain,row = vary('read', im, '--weights', micro),records(vary('read', im, '--json', '--weights', micro)[1])[0]
    assert plain[0]==0 and plain[1].strip()==row['text'].strip()

def test_info(vary):
    status,out,_ = vary('info')
    import torch, vary_nb
    assert status==0 and vary_nb.__version__ in out and torch.__version__ in out and 'nano' in out

def test_data_show_and_eval(tmp_path, vary, micro):
    sheet = tmp_path/'sheet.png'
    assert vary('data', 'show', ROOT/'data_recipes/ci.yaml', '--n', '4', '--out', sheet)[0]==0
    assert len(set(Image.open(sheet).convert('L').tobytes()))>20
    status,out,_ = vary('eval', micro, '--data', ROOT/'data_recipes/ci.yaml', '--n', '2', '--size', '32', '128')
    got = json.loads(out)
    assert status==0 and got['n']==2 and got['cer']>.5, 'untrained weights read nothing'
