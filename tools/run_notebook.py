"""Run notebooks top to bottom in place and store their outputs.

    python tools/run_notebook.py nbs/21_attention.ipynb nbs/22_vocabulary.ipynb
    python tools/run_notebook.py --flags slow nbs/32_vary_tiny.ipynb     # also run the cells marked `#| slow`

Cells marked with a skip flag of settings.ini (`slow`, `gpu`, `weights`) or `#| eval: false` are not run and keep
the outputs they have. The SHA-256 of the code is written into the notebook's metadata, so that a test can tell
whether the stored outputs belong to the current code. The result is cleaned as `nbdev_clean` does."""
import argparse, asyncio, base64, configparser, hashlib, io, os, re, sys, time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def code_hash(nb):
    "SHA-256 over the sources of all code cells."
    return hashlib.sha256('\0'.join(c.source for c in nb.cells if c.cell_type=='code').encode()).hexdigest()


def skip_flags():
    "The words of `tst_flags` in settings.ini."
    ini = configparser.ConfigParser(); ini.read(ROOT/'settings.ini')
    return set(ini['DEFAULT']['tst_flags'].split())


def skipped(source, flags):
    "Is a cell with this source left out?"
    words = {w for m in re.findall(r'^#\|\s*(.+)$', source, re.M) for w in m.split()}
    return bool(words & flags) or bool(re.search(r'^#\|\s*eval:\s*false', source, re.M))


class Runner(NotebookClient):
    "Executes all cells but the flagged ones."
    flags = frozenset()
    async def async_execute_cell(self, cell, cell_index, **kw):
        if cell.cell_type=='code' and skipped(cell.source, self.flags): return cell
        nudge = asyncio.ensure_future(self.nudge())
        try: return await super().async_execute_cell(cell, cell_index, **kw)
        finally: nudge.cancel()

    async def nudge(self):
        "A reply of the kernel can stay unnoticed while widgets talk on a busy machine; asking the socket wakes it."
        while True:
            await asyncio.sleep(.5)
            if self.kc is not None: self.kc.shell_channel.socket.EVENTS


def smaller(png, colours=128):
    "A PNG in base64, with a palette where that makes it a good deal smaller and changes little."
    im = Image.open(io.BytesIO(base64.b64decode(png))); b = io.BytesIO()
    if im.mode=='P': return png
    flat = Image.alpha_composite(Image.new('RGBA', im.size, 'white'), im.convert('RGBA')).convert('RGB')
    flat.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(b, 'PNG', optimize=True)
    found = base64.b64encode(b.getvalue()).decode()
    return found if len(found)<.8*len(png) else png


def thin(nb):
    "Drop what a reader without a kernel cannot see: widget states, second encodings of a picture, more colours than it needs, output of hidden cells."
    nb.metadata.pop('widgets', None)
    for c in nb.cells:
        if c.cell_type!='code': continue
        if re.search(r'^#\|\s*hide\s*$', c.source, re.M): c.outputs = []
        c.outputs = [o for o in c.outputs if 'application/vnd.jupyter.widget-view+json' not in o.get('data', {})]
        for o in c.outputs:
            if 'image/png' in o.get('data', {}): o['data'].pop('image/jpeg', None); o['data']['image/png'] = smaller(o['data']['image/png'])


def run(path, flags, timeout=600):
    "Execute one notebook in place."
    from nbdev.clean import clean_nb
    from execnb.nbio import read_nb, write_nb
    nb, start = nbformat.read(path, 4), time.time()
    client = Runner(nb, timeout=timeout, kernel_name='python3', resources=dict(metadata=dict(path=str(path.parent))))
    client.flags = flags
    client.execute()
    thin(nb)
    nb.metadata['vary_nb'] = dict(code=code_hash(nb))
    tmp = path.with_suffix('.ipynb.tmp')
    nbformat.write(nb, tmp); os.replace(tmp, path)
    nb = read_nb(path); clean_nb(nb, allowed_metadata_keys=['vary_nb'], clean_ids=True); write_nb(nb, path)
    print(f'{path.name}: {time.time()-start:.0f} s, {path.stat().st_size/1000:.0f} kB')


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('notebooks', nargs='+', type=Path)
    ap.add_argument('--flags', default='', help='skip flags to run all the same, for example "slow"')
    a = ap.parse_args()
    os.environ.update(IN_TEST='1', PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    for p in a.notebooks: run(p.resolve(), skip_flags()-set(a.flags.split()))


if __name__=='__main__': sys.exit(main())
