"Our shards are WebDataset's: `webdataset` and `datasets` read the same samples; disks that are full leave nothing half finished."
import io, json, sys

import pytest

from helpers import finish, start
from vary_nb.core import sha256
from vary_nb.data.recipes import Part, Recipe, ShardStream, build

RECIPE = Recipe('pages', [Part('TextPages', settings=dict(lang='en')), Part('Pictures')], samples=16, shard_size=6, size=(64,192))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('shards'); build(RECIPE, out, workers=1); return out

def ours(folder):
    stream = ShardStream(folder)
    return [(key, s.text, s.images[0].tobytes()) for (_,key,_),s in zip(stream.index, stream)]


def test_webdataset(folder):
    wds = pytest.importorskip('webdataset')
    got = list(wds.WebDataset(sorted(map(str, folder.glob('*.tar'))), shardshuffle=False).decode('pilrgb'))
    assert [(s['__key__'], s['json']['conversations'][1]['value'], s['webp'].tobytes()) for s in got]==ours(folder)
    assert sorted(s['glyphs.npy'].shape[1] for s in got)==[0]*8+[5]*8


def test_datasets(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip('datasets')
    monkeypatch.setenv('HF_HOME', str(tmp_path))
    got = datasets.load_dataset('webdataset', data_files=dict(train=str(folder/'*.tar')), split='train', cache_dir=str(tmp_path/'cache'))
    assert [(s['__key__'], s['json']['conversations'][1]['value'], s['webp'].convert('RGB').tobytes()) for s in got]==ours(folder)
    stream = datasets.load_dataset('webdataset', data_files=dict(train=str(folder/'*.tar')), split='train', streaming=True)
    assert [s['__key__'] for s in stream]==[key for key,*_ in ours(folder)]


FULL = '''
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)              # a file that grows too large is an error, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from vary_nb.cli import main
sys.exit(main(sys.argv[2:]))
'''

@pytest.mark.skipif(sys.platform=='win32', reason='needs limits of Unix')
def test_a_full_disk(tmp_path):
    "Exit code 1, one line, no partial file; with room again, --resume finishes with the right bytes."
    recipe = tmp_path/'r.yaml'; recipe.write_text('name: r\nsamples: 12\nshard_size: 4\nsize: [64, 256]\nparts: [{engine: Pictures}]\n')
    out,truth = tmp_path/'out',tmp_path/'truth'
    words = ['data','build',recipe,'--workers','1','--out']
    status,_,err = finish(start('-c', FULL, 40_000, *words, out))
    assert status==1 and 'Traceback' not in err and 'File too large' in err, err
    assert not list(out.glob('*.tar')) and not list(out.glob('.*')), 'something is left'
    assert finish(start('-c', FULL, 1<<30, *words, out, '--resume'))[0]==0
    assert finish(start('-c', FULL, 1<<30, *words, truth))[0]==0
    assert {p.name: sha256(p) for p in out.glob('*.tar')}=={p.name: sha256(p) for p in truth.glob('*.tar')}


def test_dry_run_and_check(tmp_path, vary):
    recipe = tmp_path/'r.yaml'; recipe.write_text('name: r\nsamples: 12\nshard_size: 4\nsize: [32, 64]\nparts: [{engine: Pictures}]\n')
    status,out,_ = vary('data', 'build', recipe, '--dry-run', '--json')
    told = json.loads(out)
    assert status==0 and told['samples']==12 and told['shards']==3 and told['commercial_use']=='yes' and not list(tmp_path.glob('*.tar'))
    assert vary('data', 'build', recipe, '--out', tmp_path/'o', '--workers', '1')[0]==0
    assert vary('data', 'check', tmp_path/'o')[:2]==(0, '')
    shard = tmp_path/'o/r-00001.tar'; data = bytearray(shard.read_bytes()); data[700] ^= 1; shard.write_bytes(data)
    status,out,_ = vary('data', 'check', tmp_path/'o', '--workers', '1')
    assert status==1 and 'r-00001.tar' in out and 'SHA-256' in out


def test_a_picture_format_for_each_need(tmp_path):
    from dataclasses import replace
    from PIL import Image
    for fmt,ext in (('jpeg','jpg'), ('png','png')):
        build(replace(RECIPE, format=fmt, samples=2), tmp_path/fmt, workers=1)
        _,_,members = ShardStream(tmp_path/fmt).members(0)
        assert Image.open(io.BytesIO(members[ext])).format==fmt.upper()
