"""Qwen's tokenizer against tiktoken at full length, and its first version inside a Vary."""
import base64, random, unicodedata

import pytest
import torch

from vary_nb.core import BadInput
from vary_nb.model.language import PATTERN, QWEN_SPECIAL, convert, limit_length, load_language, merge_of, qwen_config, qwen_tokenizer, read_ranks

tiktoken = pytest.importorskip('tiktoken')
regex = pytest.importorskip('regex')

EN = 'The harbour master counted the boats again before dark; seventeen had left and sixteen were back. He wrote both numbers on the board, and waited. It\'s late.'
ZH = '天黑以前港口的主人又数了一遍船。出去了十七条，回来了十六条。他把两个数字写在木板上，等着。'
CODE = 'def f(x):\n\treturn x[0] + 3.14e-2  # \\frac{a}{b}\r\n\n\n'
MORE = 'Ærø naïve café ǅungla Straße ﬁnal Ελλάδα Привет שלום مرحبا ٣٤ हिन्दी ไทย 日本語 한국어 𝒜𝓑 ① ½ ² ™ € … — “ ” « » \u00a0 \u2028 \u200b \ufeff \x00 \x1f \u0085'
TEXT = EN*3 + ZH*3 + CODE + MORE


def learn(text, n):
    "A small BPE, learned in the plainest way."
    ranks = {bytes([b]):b for b in range(256)}; words = {}
    for w in regex.findall(PATTERN, text): words[w] = words.get(w, 0)+1
    parts = {w: [bytes([b]) for b in w.encode()] for w in words}
    while len(ranks)<256+n:
        count = {}
        for w,p in parts.items():
            for pair in zip(p, p[1:]): count[pair] = count.get(pair, 0)+words[w]
        if not count: break
        a,b = max(count, key=lambda k: (count[k], k))
        if a+b not in ranks: ranks[a+b] = len(ranks)
        for p in parts.values():
            i = 0
            while i<len(p)-1:
                if p[i]==a and p[i+1]==b: p[i:i+2] = [a+b]
                i += 1
    return ranks


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    "A rank file of the official length: learned tokens, then tokens that gluing never makes, shuffled among pieces of text."
    ranks = learn(TEXT, 600); rnd = random.Random(0)
    for w in list(regex.findall(PATTERN, TEXT)): ranks.setdefault(w.encode(), len(ranks))        # whole words late in the list
    while len(ranks)<151_643: ranks.setdefault(rnd.randbytes(rnd.randrange(3,9)), len(ranks))
    path = tmp_path_factory.mktemp('qwen')/'qwen.tiktoken'
    path.write_bytes(b''.join(base64.b64encode(t) + b' %d\n' % r for t,r in ranks.items()))
    specials = {s: 151_643+i for i,s in enumerate(QWEN_SPECIAL)}
    return qwen_tokenizer(path), tiktoken.Encoding('qwen', pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)


def strings(n):
    "Slices, shuffles and mixtures of all scripts, marks and special tokens."
    rnd = random.Random(1); words = TEXT.split(' ') + ["'S", "'lL", "'\u017f", '7', '2026', 'e\u0301', 'a\u0300\u0323', '😀', '👩‍💻', '\n', '\r\n', '  ', '\t', *QWEN_SPECIAL[:4], *QWEN_SPECIAL[-9:], '<img', '|>']
    for i in range(n):
        if i%3==0: a = rnd.randrange(len(TEXT)); s = TEXT[a:a+rnd.randrange(60)]
        elif i%3==1: s = rnd.choice(('',' ')).join(rnd.choices(words, k=rnd.randrange(1,9)))
        else: s = ''.join(chr(rnd.choice((rnd.randrange(32,127), rnd.randrange(0xa0,0x530), rnd.randrange(0x4e00,0x9fa5), rnd.randrange(0x1f300,0x1f650)))) for _ in range(rnd.randrange(12)))
        yield s


def test_ten_thousand_strings_equal_tiktoken(full):
    tok,judge = full; texts = list(strings(10_000))
    got = tok(texts).input_ids
    want = [judge.encode(unicodedata.normalize('NFC', s), allowed_special='all') for s in texts]
    wrong = [(s,a,b) for s,a,b in zip(texts, got, want) if a!=b]
    assert not wrong, (len(wrong), wrong[:3])
    assert len({i for ids in got for i in ids})>500
    for s,ids in zip(texts[:2000], got): assert tok.decode(ids)==unicodedata.normalize('NFC', s)


def test_special_tokens_have_their_official_ids(full):
    tok,_ = full; ids = tok.convert_tokens_to_ids
    assert len(QWEN_SPECIAL)==217 and ids(QWEN_SPECIAL)==list(range(151_643, 151_860)) and len(tok)==151_860
    assert ids(['<|endoftext|>','<|im_start|>','<|im_end|>','<|extra_0|>','<|extra_204|>'])==[151643,151644,151645,151646,151850]
    assert ids(['<img>','</img>','<imgpad>'])==[151857,151858,151859]
    assert tok('<img>' + '<imgpad>'*256 + '</img>').input_ids==[151857] + [151859]*256 + [151858]
    assert len(tok('31415').input_ids)==5 and tok.eos_token_id==151643


def test_it_survives_saving(full, tmp_path):
    from transformers import PreTrainedTokenizerFast
    tok,_ = full; tok.save_pretrained(tmp_path); again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    texts = list(strings(500)); assert again(texts).input_ids==tok(texts).input_ids and again.model_max_length==8192
    assert again.convert_tokens_to_ids('<img>')==151857


def test_merges_are_the_only_ones_possible():
    "Reading with the merges, one pair after the other, is reading with the ranks: on every short word over three letters."
    ranks = {bytes([b]):b for b in range(256)}
    for t in (b'ab', b'bc', b'aa', b'abc', b'aab', b'bca', b'abab', b'aaa', b'cab', b'bcc'): ranks[t] = len(ranks)
    tok = qwen_tokenizer(ranks); judge = tiktoken.Encoding('t', pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    words = ['']
    for _ in range(7): words += [w+c for w in words if len(w)==len(words[-1]) for c in 'abc']
    assert len(words)>3000 and all(tok(w).input_ids==judge.encode(w) for w in words)
    assert merge_of(b'bcc', ranks)==(b'bc',b'c') and merge_of(b'cab', ranks)==(b'c',b'ab')


def test_broken_rank_files(tmp_path):
    good = [base64.b64encode(bytes([b])) + b' %d' % b for b in range(256)]; p = tmp_path/'r.tiktoken'
    for change,why in [(good[:200], '56 of the 256'), (good + [b'YWI= 300'], 'line 257'), (good + [b'!!!! 256'], 'line 257'), (good + [good[0].split()[0] + b' 256'], 'second time'),
                       ([b'version https://git-lfs.github.com/spec/v1'], 'line 1'), ([], '256 of the 256')]:
        p.write_bytes(b'\n'.join(change))
        with pytest.raises(BadInput, match=why): read_ranks(p)


def test_the_guard_counts_over_a_cache():
    from transformers import Qwen2ForCausalLM
    c = qwen_config(dict(hidden_size=32, num_attention_heads=2, num_hidden_layers=1, intermediate_size=64, vocab_size=50, seq_length=12))
    m = limit_length(Qwen2ForCausalLM(c).eval()); x = torch.randint(50, (2,12))
    with torch.no_grad():
        out = m(x[:,:8], use_cache=True); m(x[:,8:12], past_key_values=out.past_key_values)
        with pytest.raises(BadInput, match='13 tokens'): m(x[:,:1], past_key_values=out.past_key_values)
        with pytest.raises(BadInput, match='24 tokens'): m(torch.cat([x,x], 1))


def test_a_folder_with_qwen_tiktoken_becomes_one_with_a_fast_tokenizer(tmp_path):
    from transformers import AutoTokenizer
    from test_checkpoints import micro_state, write
    src = write(micro_state('vary-toy'), tmp_path/'toy', 'vary-toy'); ranks = learn(EN, 50)
    (src/'qwen.tiktoken').write_bytes(b''.join(base64.b64encode(t) + b' %d\n' % r for t,r in ranks.items()))
    convert(src, tmp_path/'words', 'language'); tok = AutoTokenizer.from_pretrained(tmp_path/'words')
    assert tok.decode(tok(EN).input_ids)==EN and tok.convert_tokens_to_ids('<img>')==len(ranks)+QWEN_SPECIAL.index('<img>') and tok.model_max_length==32
    model,same = load_language(src); assert same(EN).input_ids==tok(EN).input_ids
    with pytest.raises(BadInput, match='exact up to 32'): model(torch.zeros(1,33, dtype=torch.long))
