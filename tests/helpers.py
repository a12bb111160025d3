"What several test files share: where things are, how to start a Python, small PDFs."
import os, socket, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if not p.name.startswith('_'))
MODULES = sorted(p for p in (ROOT/'vary_nb').rglob('*.py') if not p.name.startswith('_'))

ENV = dict(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT/'tests')]), OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1',
           TRANSFORMERS_OFFLINE='1', GRADIO_ANALYTICS_ENABLED='False', PYTHONWARNINGS='ignore')


def child_env(**more):
    "The environment of a child process: the package of this tree, no network, no trace of nbdev_test."
    return {k:v for k,v in os.environ.items() if k!='IN_TEST'} | ENV | more


def start(*args, env=(), **kw):
    "A Python process with its output in pipes, in a session of its own so that it can be killed with its children."
    return subprocess.Popen([sys.executable, *map(str, args)], cwd=kw.pop('cwd', ROOT), env=child_env(**dict(env)), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **kw)


def finish(process, timeout=120):
    "(exit code, stdout, stderr) of a started process; never leaves it behind."
    try: out,err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None: os.killpg(process.pid, 9)
    return process.returncode, out, err


def module_name(path):
    "vary_nb/data/pdf.py -> vary_nb.data.pdf"
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


TEXT = ('The harbour master counted the boats again before dark.', 'Seventeen had left and sixteen were back.',
        'He wrote both numbers on the board, and waited.')

def make_pdf(path, pages=1, lines=TEXT*2, size=(400,300), **save):
    "A PDF with the same lines of text on every page."
    import pymupdf
    doc = pymupdf.open()
    for _ in range(pages):
        page = doc.new_page(width=size[0], height=size[1])
        for k,line in enumerate(lines): page.insert_text((20, 30+20*k), line, fontsize=11)
    doc.save(str(path), **save)
    return path


def free_port():
    "A port nobody listens on."
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]
