"LaTeX sources by people who mean harm, and by people who do not: nothing gets out, nothing hangs, everything is reported."
import gzip, io, os, pickle, subprocess, sys, tarfile, time, zipfile

import pytest

from helpers import ROOT
from vary_nb.core import BadInput, Skip
from vary_nb.data.arxiv import decode, flatten, list_documents, read_source
from vary_nb.data.formulas import formula
from vary_nb.data.latex import KEEP, METHODS, Simplified, block_markdown, blocks, markdown, pandoc_tree, read_blocks, read_markdown

def cpu(): t = os.times(); return t.user+t.system+t.children_user+t.children_system   # this process and pandoc

SECRET = 'the-secret-that-nobody-may-read'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch): monkeypatch.setenv('VARY_CACHE', str(tmp_path/'cache'))

def tar(files, mode='w:gz'):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for name,data in files.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name; body = b'' if data is info else data; info.size = len(body); t.addfile(info, io.BytesIO(body))
    return out.getvalue()

def paper(folder, text, name='main.tex'):
    folder.mkdir(exist_ok=True); (folder/name).write_text(text, encoding='utf8'); return folder/name


@pytest.mark.parametrize('wish', [r'\input{%s}', r'\input %s ', r'\include{%s}', r'\subfile{%s}', r'\import{/}{%s}', r'\InputIfFileExists{%s}{}{}', r'\usepackage{%s}',
    r'\lstinputlisting{%s}', r'\verbatiminput{%s}', r'\includegraphics{%s}', r'\newread\f\openin\f=%s\read\f to\x\x', r'\input{|"cat %s"}', r'\input|"cat %s"',
    r'\bibliography{%s}', r'\def\x{\input}\x{%s}', r'\csname input\endcsname{%s}', r'\write18{cat %s}', r'\catcode`\@=11 \@input{%s}', r'\directlua{io.open("%s")}', r'\DTLloaddb{x}{%s}'])
@pytest.mark.parametrize('method', METHODS)
def test_no_file_from_outside(tmp_path, wish, method):
    (tmp_path/'secret').write_text(SECRET); (tmp_path/'secret.tex').write_text(SECRET); (tmp_path/'secret.sty').write_text(SECRET)
    for name in (str(tmp_path/'secret'), '../secret', 'a/../../secret', '~/secret'):
        main = paper(tmp_path/'paper', r'\begin{document} Before. '+wish.replace('%s', name)+' After this.\\end{document}')
        p = read_blocks(main, method)
        assert SECRET not in markdown(p.blocks) and 'Before.' in markdown(p.blocks)

def test_links_lead_nowhere(tmp_path):
    (tmp_path/'secret.tex').write_text(SECRET); main = paper(tmp_path/'paper', r'one \input{link} \input{sub/secret} two')
    os.symlink(tmp_path/'secret.tex', tmp_path/'paper/link.tex'); os.symlink(tmp_path, tmp_path/'paper/sub')
    p = read_blocks(main)
    assert SECRET not in markdown(p.blocks) and p.dropped['outside the paper']==2

def test_links_and_climbers_in_archives(tmp_path):
    (tmp_path/'secret').write_text(SECRET); link = tarfile.TarInfo(); link.type = tarfile.SYMTYPE; link.linkname = str(tmp_path/'secret')
    (tmp_path/'p.tar.gz').write_bytes(tar({'main.tex':rb'\documentclass{a}one \input{link} \input{../secret} two', 'link.tex':link, '../up.tex':b'x'}))
    skipped = {}; found = list_documents(tmp_path/'p.tar.gz', skipped); p = read_blocks(found[0])
    assert len(found)==1 and SECRET not in markdown(p.blocks) and 'unsafe name' in str(skipped) and sorted(os.listdir(tmp_path))==['cache','p.tar.gz','secret']


@pytest.mark.parametrize('method', ['auto','regex'])
@pytest.mark.parametrize('text', [r'\def\a{\a\a}\a', r'\def\a{\b x}\def\b{\a y}\a', r'\newcommand\a[1]{\a{#1#1}}\a x', '{'*200+'x'+'}'*200, '{'*100_000, '}'*100_000, '$'*100_001,
    r'\['*5_000, r'\begin{itemize}'*60, r'\begin{tabular}{c}'*3000, r'\iffalse '*20_000, r'\frac'*1000, '$'+'{'*5000+'$', '$'+r'\left('*900+'$', r'\textbf{'*300, r'\input{main}'*99,
    r'\newcommand'*5000, r'\begin{x}'*5000, '\\verb|'*1_000, '%'*500_000, ' '*500_000, '\\'*50_001, r'\footnote{'*5000, r'\begin{tabular}{*{99}{*{99}{c}}}x\end{tabular}', '~'*10_000,
    r'\section{'*300+'}'*300, r'\begin{verbatim}'*5000, r'\item '*600, r'\multicolumn{9}{'*500, '&\\\\'*1_500], ids=lambda t: t[:14])
def test_nothing_hangs(text, method, monkeypatch):
    monkeypatch.setattr(pandoc_tree, '__defaults__', (2., 512)) # pandoc takes for ever over open environments: it is stopped
    start = cpu()
    try: blocks('First. '+text+' last', method)
    except Skip as e: assert e.reason
    assert cpu()-start<6

def test_fifty_megabytes_of_braces(tmp_path):
    (tmp_path/'big.tex').write_bytes(b'{'*50_000_000)
    with pytest.raises((BadInput, Skip), match='50,000,000'): read_blocks(tmp_path/'big.tex')
    skipped = {}; paper(tmp_path, 'good'); assert [os.path.basename(a) for a in list_documents(tmp_path, skipped)]==['main.tex'] and '50,000,000' in str(skipped)

def test_include_loops(tmp_path):
    for a,b in ('xy','yx'): paper(tmp_path, f'{a} \\input{{{b}}}', f'{a}.tex')
    p = read_blocks(tmp_path/'x.tex'); assert p.dropped['include loop']==1
    many = {f'f{k}.tex':f'\\input{{f{k+1}}}\\input{{f{k+1}}}'.encode() for k in range(40)}
    (tmp_path/'many.gz').write_bytes(tar({**many, 'main.tex':rb'\documentclass{x}text \input{f0}'}))
    start = cpu(); assert 'text' in markdown(read_blocks(tmp_path/'many.gz').blocks) and cpu()-start<5


def test_archive_bombs(tmp_path):
    (tmp_path/'zeros.gz').write_bytes(gzip.compress(bytes(60_000_000), 1))
    (tmp_path/'tarred.gz').write_bytes(gzip.compress(tar({'main.tex':bytes(60_000_000)}, 'w'), 1))
    for name in ('zeros.gz','tarred.gz'):
        with pytest.raises(Skip, match='bomb'): read_source(tmp_path/name)
    with zipfile.ZipFile(tmp_path/'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('main.tex', 'a'*20_000_000); z.writestr('good.tex', 'fine')
    skipped = {}; assert [a.split('::')[1] for a in list_documents(tmp_path/'bomb.zip', skipped)]==['good.tex'] and 'bomb' in str(skipped)

@pytest.mark.parametrize('cut', [1, 11, 60, 0.3, 0.9])
def test_cut_archives(tmp_path, cut):
    data = tar({'main.tex':b'\\documentclass{x}\\begin{document}whole\\end{document}', 'figure.eps':os.urandom(30_000)}); n = cut if cut>=1 else int(len(data)*cut)
    (tmp_path/'p.gz').write_bytes(data[:n]); (tmp_path/'p.tar.gz').write_bytes(data[:n])
    try: assert 'whole' in markdown(read_blocks(tmp_path/'p.gz').blocks)
    except (Skip, BadInput) as e: assert str(e)
    skipped = {}
    try: list_documents([tmp_path/'p.tar.gz'], skipped)
    except BadInput as e: assert str(e)
    else: assert skipped

@pytest.mark.parametrize('data', [b'\xff\xfe\0', b'\xff'*1000, os.urandom(5000), b'\x80abc', b'\xef\xbb\xbf', '公式'.encode('gb18030')[:-1], 'é公'.encode('utf-16'), b'\0\0\xfe\xff\0\0\0a', b'', b'\x1f\x8b', b'\x1f\x8b\x08'])
def test_bad_bytes(tmp_path, data):
    (tmp_path/'a.tex').write_bytes(data)
    try: p = read_blocks(tmp_path/'a.tex'); markdown(p.blocks).encode('utf8')
    except (Skip, BadInput) as e: assert str(e)

@pytest.mark.parametrize('encoding', ['utf-8','utf-8-sig','utf-16','utf-16-le','gb18030'])
def test_encodings(encoding): assert decode('\\section{公式与表格} 设 $x$ 为数。'.encode(encoding))[0]=='\\section{公式与表格} 设 $x$ 为数。'


def test_pandoc_is_shut_in(tmp_path):
    secret = tmp_path/'secret.tex'; secret.write_text(SECRET)
    for wish in (rf'\input{{{secret}}}', rf'\include{{{secret}}}', rf'\lstinputlisting{{{secret}}}', rf'\includegraphics{{{secret}}}', rf'\usepackage{{{secret}}}', rf'\bibliography{{{secret}}}'):
        assert SECRET not in str(pandoc_tree('x '+wish))
    start = time.perf_counter()
    with pytest.raises(Skip, match='time limit'): pandoc_tree('{'*40, seconds=.5)
    assert time.perf_counter()-start<8
    with pytest.raises(Skip, match='pandoc'): pandoc_tree('word \\textbf{a $b$}\n\n'*100_000, megabytes=20)

def test_without_pandoc_the_next_one(monkeypatch):
    def broken(text): raise Skip('pandoc: error')
    monkeypatch.setitem(METHODS, 'pandoc', broken); p = blocks(r'\section{A} b'); assert p.method=='pylatexenc' and p.dropped['pandoc: error']==1
    monkeypatch.setitem(METHODS, 'pylatexenc', broken); assert blocks(r'\section{A} b').method=='regex'

def test_a_block_cut_anywhere_is_whole():
    p = blocks(r'A \textbf{bold run of words}, then $x$ and \emph{italic \textbf{both} words}. \textbf{设} 整数。')
    for b in p.blocks:
        for k in range(1, len(b.atoms)):
            a,c = block_markdown(b, 0, k),block_markdown(b, k)
            assert a.count('*')%2==c.count('*')%2==0
            assert a.replace('*', '').replace(' ', '')+c.replace('*', '').replace(' ', '')==block_markdown(b).replace('*', '').replace(' ', '')

def test_same_source_same_blocks():
    text = r'\section{A} b \cite{x} \ref{y} $z$'; code = f'from vary_nb.data.latex import blocks, markdown; print(markdown(blocks({text!r}).blocks))'
    outs = {subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, env={**os.environ, 'PYTHONHASHSEED':str(k)}).stdout for k in (1,2)}
    assert len(outs)==1 and outs.pop().strip()==markdown(blocks(text).blocks); assert pickle.loads(pickle.dumps(blocks(text)))==blocks(text)

FORMULAS = [r'\frac{a}{b}', r'\sqrt[3]{x}', r'x_{1}^{2}', r'\left(\sum_{i}x\right)', r'\begin{pmatrix} a & b \\ c & d \end{pmatrix}', r'\text{if }x', r'\overline{AB}', r'\operatorname*{max}_{x}', "f''", r'\|x\|', r'\mathbb{R}']

@pytest.mark.parametrize('tex', FORMULAS)
def test_normal_form_twice(tex):
    once = formula(tex, True); assert formula(once, True)==once
    md = markdown(blocks(f'Text ${tex}$ here.\n\n\\[ {tex} \\]').blocks); assert markdown(read_markdown(md))==md and md.count(once)==2

def test_everything_left_out_is_counted():
    source = '\n\n'.join([r'good', r'$\foo$', r'a\footnote{b}', r'\begin{verbatim}x\end{verbatim}', r'\begin{tikzpicture}x\end{tikzpicture}', r'\input{no}', r'\bar{x}', 'snow ☃', r'\begin{tabular}{c}a&b\end{tabular}'])
    d = blocks(source).dropped
    for reason in ('formula: unknown command: \\foo', 'left out: footnote', 'code', 'environment left out: tikzpicture', 'missing file', 'a formula outside of a formula', 'table: more cells than columns'): assert d[reason]>=1, (reason, d)
    assert any(r.startswith('a character') for r in d)

def test_standard_commands_keep_their_meaning():
    assert flatten(r'\renewcommand{\alpha}{\alpha\alpha}$\alpha$', keep=KEEP).text==r'$\alpha$'
    s = Simplified(); assert s.run(r'\textbf{a}')==r'\textbf{a}'
