"""Checkpoints of the family: official names and shapes, files made by other people's code, round trips, damage.

The full-size comparison takes two minutes and runs with VARY_SLOW=1 (or alone: python tests/parity_checkpoints.py)."""
import itertools, json, os, random, re, subprocess, sys, warnings, zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from helpers import ROOT, child_env
from vary_nb.core import BadInput, count_params
from vary_nb.model.checkpoints import FAMILY, detect, load_vision_vocabulary, open_checkpoint, save_as, to_ours
from vary_nb.model.language import convert, load_language
from vary_nb.model.vary import VaryForConditionalGeneration, load, preset
from vary_nb.model.vocabulary import VaryVisionConfig, VisionVocabulary
from vary_nb.model.weights import Ref

LAYOUTS = ROOT/'tests/layouts'
OFFICIAL = sorted(p.stem for p in LAYOUTS.glob('*.txt') if p.stem!='encoder')
each = pytest.mark.parametrize('name', OFFICIAL)


def names(pattern):
    "a.{0-1}.{x,y} -> a.0.x a.0.y a.1.x a.1.y"
    parts = [[p] if i%2==0 else p.split(',') if '-' not in p else [str(k) for k in range(int(p.split('-')[0]), int(p.split('-')[1])+1)]
             for i,p in enumerate(re.split(r'\{(.*?)\}', pattern))]
    return [''.join(c) for c in itertools.product(*parts)]


def listed(name):
    "{tensor: shape} of an official layout, from the committed list."
    out = {}
    for row in (LAYOUTS/f'{name}.txt').read_text().splitlines():
        first,*rest = row.split()
        if first=='#': continue
        if first=='encoder': out |= {rest[0]+k: s for k,s in listed('encoder').items() if len(rest)<3 or not k.startswith(rest[2])}
        else: out |= {k: tuple(map(int, rest)) for k in names(first)}
    return out


SMALL = {16:8, 14:7, 27:5, 127:15, 256:16, 257:5, 384:24, 512:32, 768:32, 1024:64, 1280:48, 2048:128, 2304:96, 3072:64, 4096:256, 5504:96, 2816:96, 6144:384,
         11008:96, 12288:768, 50272:90, 2050:66, 151860:80, 151936:80}

def micro_shapes(name):
    "The same names with small shapes; of the large language models and of CLIP two layers."
    out = {}
    for k,s in listed(name).items():
        if (m := re.search(r'(?:layers|h)\.(\d+)\.', k)) and 'decoder' not in k and int(m[1])>1: continue
        out[k] = (1,8,8,32) if k.endswith('pos_embed') else tuple(16 if d==64 and 'rel_pos' in k else SMALL.get(d, d) for d in s)
    return out


def micro_state(name, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {k: torch.randn(s, generator=g).mul(.05).to(dtype) for k,s in micro_shapes(name).items()}


def write(state, path, name):
    "Not by our code: what the official scripts leave behind."
    path.mkdir()
    config = {'num_attention_heads':2, 'pad_token_id':1}
    if name in ('vary-base','vary-toy'): config = dict(model_type='mmgpt', hidden_size=256 if name=='vary-base' else 128, num_attention_heads=4, num_hidden_layers=2,
        intermediate_size=192, seq_length=32, vocab_size=80, no_bias=True)
    if name=='got': config = dict(model_type='GOT', hidden_size=64, num_attention_heads=2, num_key_value_heads=2, num_hidden_layers=2, intermediate_size=96, rope_theta=1e6, tie_word_embeddings=False)
    if name=='vary-tiny-600k': torch.save(dict(model=state, optimizer={}, config={'run':{}}, scaler=None, epoch=9), path/'checkpoint_9.pth')
    elif name=='sam': torch.save(state, path/'sam_vit_b.pth')
    elif name in ('vary-base','got'): # shards
        keys = sorted(state); cut = len(keys)//2
        for i,part in enumerate((keys[:cut], keys[cut:]), 1):
            if name=='got': save_file({k:state[k] for k in part}, path/f'model-0000{i}-of-00002.safetensors', {'format':'pt'})
            else: torch.save({k:state[k] for k in part}, path/f'pytorch_model-0000{i}-of-00002.bin')
        ending,stem = ('safetensors','model') if name=='got' else ('bin','pytorch_model')
        where = {k: f'{stem}-0000{1+(k in keys[cut:])}-of-00002.{ending}' for k in keys}
        (path/f'{stem}.{"safetensors" if name=="got" else "bin"}.index.json').write_text(json.dumps(dict(metadata={}, weight_map=where)))
    else: torch.save(state, path/'pytorch_model.bin')
    if name not in ('vary-tiny-600k','sam','deepseek-ocr'): (path/'config.json').write_text(json.dumps(config))
    return path


def same(a, b):
    assert set(a)==set(b), set(a)^set(b)
    for k in a: assert a[k].dtype==b[k].dtype and torch.equal(a[k], b[k]), k


def tensors_in(path):
    "Everything in a folder, by the libraries themselves."
    out = {}
    for p in path.glob('*.safetensors'): out |= load_file(p)
    return out


def shapes(model): return {k: tuple(v.shape) for k,v in model.state_dict().items()}
def total(shape): return sum(torch.Size(s).numel() for s in shape.values())


def test_the_encoder_has_the_published_names_and_size():
    want = listed('encoder')
    assert (len(want), total(want))==(179, 95_569_152)
    with torch.device('meta'): assert shapes(VisionVocabulary(VaryVisionConfig()))==want


def test_vary_tiny_has_the_published_names_and_size():
    want = listed('vary-tiny')
    assert (len(want), total(want)-50272*768)==(378, 221_595_648)              # lm_head is embed_tokens
    ours,lost = to_ours({k: Ref(s, torch.float32, None) for k,s in want.items()}, FAMILY['vary-tiny'].rules)
    with torch.device('meta'): model = VaryForConditionalGeneration(preset('tiny'))
    assert not lost and {k:r.shape for k,r in ours.items()}==shapes(model) and count_params(model)==221_595_648


def test_got_has_the_names_of_transformers():
    from transformers import GotOcr2Config, GotOcr2ForConditionalGeneration
    from vary_nb.model.checkpoints import to_theirs
    ours,lost = to_ours({k: Ref(s, torch.float32, None) for k,s in listed('got').items()}, FAMILY['got'].rules)
    with torch.device('meta'): model = GotOcr2ForConditionalGeneration(GotOcr2Config())
    theirs,left = to_theirs(ours, FAMILY['got-hf5'].rules)
    want = {k: (151860,1024) if s==(model.config.text_config.vocab_size,1024) else s for k,s in shapes(model).items()}
    assert not lost and not left and {k:r.shape for k,r in theirs.items()}==want


@pytest.mark.parametrize('name,hidden,layers', [('vary-base',4096,32), ('vary-toy',2048,24)])
def test_the_large_ones_have_the_names_of_transformers(name, hidden, layers):
    from transformers import CLIPVisionConfig, CLIPVisionModel, Qwen2Config, Qwen2ForCausalLM
    want = listed(name); ours,lost = to_ours({k: Ref(s, torch.float32, None) for k,s in want.items()}, FAMILY[name].rules)
    part = lambda start: {k.removeprefix(start): r.shape for k,r in ours.items() if k.startswith(start)}
    with torch.device('meta'):
        clip = CLIPVisionModel(CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224, patch_size=14))
        words = Qwen2ForCausalLM(Qwen2Config(vocab_size=151936, hidden_size=hidden, intermediate_size=want['transformer.h.0.mlp.w1.weight'][0], num_hidden_layers=layers,
                                             num_attention_heads=hidden//128, num_key_value_heads=hidden//128))
    assert not lost and part('clip.')==shapes(clip) and part('language_model.')==shapes(words) and part('vision.')==listed('encoder')
    if name=='vary-base': assert total(part('projector.'))+total(part('clip_projector.'))==4_198_400


@each
def test_told_by_its_tensors(name):
    assert detect({k: Ref(s, torch.float32, None) for k,s in listed(name).items()}).name==name
    assert detect({k: Ref(s, torch.float32, None) for k,s in micro_shapes(name).items()}).name==name


@each
def test_there_and_back(name, tmp_path):
    "Official file -> ours -> official: the same names and numbers; and the encoder runs, told by nothing but the file."
    state = micro_state(name, torch.bfloat16); src = write(state, tmp_path/'a-name-that-says-nothing', name)
    ck = open_checkpoint(src); assert ck.member.name==name
    save_as(ck, name, tmp_path/'back', shard=50_000); same(tensors_in(tmp_path/'back'), state)
    convert(src, tmp_path/'back.pth', layout=name)
    back = torch.load(tmp_path/'back.pth', weights_only=True); same(back.get('model', back), state)
    assert not list(tmp_path.glob('.*'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore'); net = load_vision_vocabulary(src)
    for k,v in net.state_dict().items():
        if 'vision.'+k in ck.tensors: assert torch.equal(v, ck.tensors['vision.'+k].read().float())
    with torch.no_grad(): assert net(torch.zeros(1,3,64,64)).shape==(1,4,64)
    assert net.member.name==name and net.member.mean


@pytest.mark.parametrize('name', [n for n in OFFICIAL if n not in ('sam','deepseek-ocr')])
def test_through_our_format_and_back(name, tmp_path):
    "Nothing is lost in our folder, two towers and heads for numbers included; what our class can run, it loads."
    state = micro_state(name, torch.float16); src = write(state, tmp_path/'src', name)
    report = convert(src, tmp_path/'ours'); assert report.layout=='vary-nb' and not report.dropped
    convert(tmp_path/'ours', tmp_path/'again', layout=name); same(tensors_in(tmp_path/'again'), state)
    card = json.loads((tmp_path/'ours/conversion.json').read_text())
    assert card['source']['layout']==name and card['like']==name and card['source']['files']
    assert load_vision_vocabulary(tmp_path/'ours').member==FAMILY[name]              # its habits came along
    if name in ('vary-base','vary-toy'): return
    model = VaryForConditionalGeneration.from_pretrained(tmp_path/'ours', dtype=torch.float32).eval()
    ids = torch.tensor([[7]*6]); ids[0,1:5] = model.config.image_token_id%80 if name=='got' else 5; model.config.image_token_id = int(ids[0,1])
    with torch.no_grad(): assert model(input_ids=ids, pixel_values=torch.zeros(1,3,64,64)).logits.isfinite().all()
    assert torch.equal(model.projector.weight.half(), state[next(k for k in state if re.search(r'(mm_projector(_vary)?|opt_proj)\.weight', k))])


SIZES = dict(hidden_size=32, num_hidden_layers=3, mlp_dim=64, num_attention_heads=2, image_size=64, patch_size=8, window_size=3, global_attn_indexes=[2])

def noisy(model):
    torch.manual_seed(0)
    for p in model.parameters(): nn.init.normal_(p, std=.15)
    return model.eval()


@pytest.fixture(scope='module')
def got():
    from transformers import GotOcr2Config, GotOcr2ForConditionalGeneration, Qwen2Config
    text = Qwen2Config(hidden_size=64, num_attention_heads=2, num_key_value_heads=2, num_hidden_layers=2, vocab_size=80, intermediate_size=96)
    return noisy(GotOcr2ForConditionalGeneration(GotOcr2Config(vision_config=dict(SIZES, output_channels=16), text_config=text.to_dict(), image_token_index=5, image_seq_length=4)))


@pytest.mark.parametrize('sharded', [False, True])
def test_sam_of_transformers(sharded, tmp_path):
    from transformers import SamConfig, SamModel, SamVisionConfig
    small = dict(hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16)
    model = noisy(SamModel(SamConfig(vision_config=SamVisionConfig(**SIZES, output_channels=16), prompt_encoder_config=dict(hidden_size=16, image_size=64, patch_size=8), mask_decoder_config=small)))
    model.save_pretrained(tmp_path/'sam', **(dict(max_shard_size='30kB') if sharded else {}))
    ck = open_checkpoint(tmp_path/'sam'); assert ck.member.name=='sam-hf' and len(ck.weights.files)>1 or not sharded
    with pytest.warns(UserWarning, match='start at random'): ours = load_vision_vocabulary(tmp_path/'sam')
    x = torch.randn(2,3,64,64)
    with torch.no_grad(): assert (ours(x, with_map=True)[1]-model.vision_encoder(x).last_hidden_state).abs().max()<1e-5
    save_as(ck, 'sam-hf', tmp_path/'back'); same(tensors_in(tmp_path/'back'), tensors_in(tmp_path/'sam'))
    convert(tmp_path/'sam', tmp_path/'sam.pth', 'sam'); official = torch.load(tmp_path/'sam.pth', weights_only=True)
    assert set(official)=={k for k in micro_shapes('sam') if k.startswith('image_encoder') and not re.search(r'blocks\.([3-9]|1\d)\.', k)}


def test_got_of_transformers_both_ways(got, tmp_path):
    "Files of transformers come in; through the original's layout and back out they are the same model for transformers."
    from transformers import GotOcr2ForConditionalGeneration
    got.save_pretrained(tmp_path/'hf'); assert open_checkpoint(tmp_path/'hf').member.name=='got-hf'
    torch.save(got.state_dict(), tmp_path/'memory.bin'); assert open_checkpoint(tmp_path/'memory.bin').member.name=='got-hf5'
    ours = load_vision_vocabulary(tmp_path/'hf'); x = torch.randn(1,3,64,64); m = got.model
    with torch.no_grad():
        neck = m.vision_tower(x).last_hidden_state; packed = m.multi_modal_projector.conv_upsampler2(m.multi_modal_projector.conv_upsampler1(neck)).flatten(2).transpose(1,2)
        tokens,at = ours(x, with_map=True); assert (at-neck).abs().max()<1e-5 and (tokens-packed).abs().max()<1e-5*packed.std()
    convert(tmp_path/'hf', tmp_path/'original', 'got'); assert open_checkpoint(tmp_path/'original').member.name=='got'
    (tmp_path/'original/config.json').write_text(got.config.text_config.to_json_string())
    convert(tmp_path/'original', tmp_path/'again', 'got-hf'); same(tensors_in(tmp_path/'again'), tensors_in(tmp_path/'hf'))
    again = GotOcr2ForConditionalGeneration.from_pretrained(tmp_path/'again').eval()
    ids = torch.tensor([[1,5,5,5,5,2]]); again.config.image_token_id = 5; again.model.config.image_token_id = 5
    with torch.no_grad(): assert torch.equal(again(input_ids=ids, pixel_values=x).logits, got(input_ids=ids, pixel_values=x).logits)
    convert(tmp_path/'hf', tmp_path/'ours'); model = VaryForConditionalGeneration.from_pretrained(tmp_path/'ours').eval()
    model.config.image_token_id = 5
    with torch.no_grad(): assert (model(input_ids=ids, pixel_values=x).logits-got(input_ids=ids, pixel_values=x).logits).abs().max()<1e-4


def test_clip_opt_and_qwen2_of_transformers(tmp_path):
    "The other parts of a checkpoint arrive in the classes they came from."
    from transformers import CLIPVisionConfig, CLIPVisionModel, OPTConfig, OPTForCausalLM, Qwen2Config, Qwen2ForCausalLM
    clip = noisy(CLIPVisionModel(CLIPVisionConfig(hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, image_size=14, patch_size=7)))
    clip.save_pretrained(tmp_path/'clip'); state = micro_state('vary-toy')
    put = {('transformer.vision_tower.vision_model.'+k): v for k,v in load_file(tmp_path/'clip/model.safetensors').items()}
    assert set(put)=={k for k in state if k.startswith('transformer.vision_tower.')}
    ck = open_checkpoint(write(state | put, tmp_path/'toy', 'vary-toy'))
    clip2 = CLIPVisionModel(clip.config).eval(); clip2.load_state_dict({k.removeprefix('clip.'): r.read() for k,r in ck.tensors.items() if k.startswith('clip.')})
    x = torch.randn(1,3,14,14)
    with torch.no_grad(): assert torch.equal(clip2(x).last_hidden_state, clip(x).last_hidden_state)
    ids = torch.randint(60, (1,9))
    opt = noisy(OPTForCausalLM(OPTConfig(vocab_size=90, hidden_size=32, word_embed_proj_dim=32, num_hidden_layers=12, num_attention_heads=2, ffn_dim=64, max_position_embeddings=64)))
    opt.save_pretrained(tmp_path/'opt'); state = micro_state('vary-tiny') | load_file(tmp_path/'opt/model.safetensors')
    state['lm_head.weight'] = state['model.decoder.embed_tokens.weight'].clone()
    words,_ = load_language(write(state, tmp_path/'tiny', 'vary-tiny'))
    with torch.no_grad(): assert torch.equal(words(ids).logits, opt(ids).logits)
    qwen = noisy(Qwen2ForCausalLM(Qwen2Config(vocab_size=80, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, rope_parameters=dict(rope_type='default', rope_theta=1e6))))
    qwen.save_pretrained(tmp_path/'qwen'); state = micro_state('got') | load_file(tmp_path/'qwen/model.safetensors')
    words,_ = load_language(write(state, tmp_path/'got', 'got'))
    with torch.no_grad(): assert torch.equal(words(ids).logits, qwen(ids).logits)


def test_shipped_weights_through_the_converter(tmp_path):
    "nano as Vary-tiny and back: the same model, with its own way of looking."
    model,_ = load('nano'); save_as(model, 'vary-tiny', tmp_path/'official'); assert open_checkpoint(tmp_path/'official').member.name=='vary-tiny'
    report = convert(ROOT/'vary_nb/weights/nano', tmp_path/'copy'); assert not report.dropped
    again,processor = load(tmp_path/'copy')
    for k,v in model.state_dict().items(): assert torch.equal(again.state_dict()[k], v), k
    assert list(processor.image_processor.image_mean)==[.7]*3 and processor.tokenizer('abc').input_ids
    assert load_vision_vocabulary(tmp_path/'copy').member.fit=='views'


# damage

def test_nothing_but_bad_input_from_damaged_files(tmp_path):
    "Files cut and bent at ninety places either open as they were, or are refused in one line."
    state = {k:v for k,v in micro_state('vary-tiny').items() if 'decoder' not in k}
    save_file(state, tmp_path/'a.safetensors'); torch.save(state, tmp_path/'a.pth'); torch.save(state, tmp_path/'old.pth', _use_new_zipfile_serialization=False)
    rnd,refused = random.Random(0),0
    for name in ('a.safetensors','a.pth','old.pth'):
        data = (tmp_path/name).read_bytes(); open_checkpoint(tmp_path/name)
        for i in range(30):
            bad = bytearray(data)
            if i%2: bad = bad[:rnd.randrange(len(bad))]
            else:
                for _ in range(8): bad[rnd.randrange(min(len(bad), 20_000))] ^= 1 << rnd.randrange(8)
            p = tmp_path/('bent'+Path(name).suffix); p.write_bytes(bad)
            try: ck = open_checkpoint(p); [r.read() for r in ck.tensors.values()]
            except BadInput as e: refused += 1; assert '\n' not in str(e), str(e)
    assert refused>45


def test_a_compressed_pickle_is_no_bomb(tmp_path):
    "PyTorch stores without compression; an archive that was packed again is refused or read, never unpacked into memory."
    torch.save({'w':torch.zeros(1_000_000)}, tmp_path/'a.pth')
    with zipfile.ZipFile(tmp_path/'a.pth') as z, zipfile.ZipFile(tmp_path/'b.pth', 'w', zipfile.ZIP_DEFLATED) as out:
        for i in z.infolist(): out.writestr(i.filename, z.read(i))
    assert (tmp_path/'b.pth').stat().st_size<100_000
    with pytest.raises(BadInput): open_checkpoint(tmp_path/'b.pth')


class Program:
    def __reduce__(self): return os.system, ('touch harmed',)

@pytest.mark.parametrize('place', ['value','key','beside'])
def test_hostile_pickles_are_not_run(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path); state = micro_state('sam')
    d = {'value':{**state, 'x':Program()}, 'key':{'model':state, 'args':[Program()]}, 'beside':[Program()]}[place]
    torch.save(d, tmp_path/'bad.pth')
    with pytest.raises(BadInput, match='system'): open_checkpoint(tmp_path/'bad.pth')
    with pytest.raises(BadInput): convert(tmp_path/'bad.pth', tmp_path/'out')
    assert not (tmp_path/'harmed').exists() and not (tmp_path/'out').exists() and not list(tmp_path.glob('.out*'))


def test_a_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    src = write(micro_state('vary-tiny'), tmp_path/'src', 'vary-tiny')
    import vary_nb.model.language as L
    def full(*a, **k): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(L, 'write_card', full)
    with pytest.raises(OSError): convert(src, tmp_path/'dst')
    assert sorted(p.name for p in tmp_path.iterdir())==['src']


def test_no_code_of_the_folder_is_run_or_copied(tmp_path):
    src = write(micro_state('vary-toy'), tmp_path/'src', 'vary-toy')
    (src/'modeling_vary.py').write_text("open('harmed','w')"); (src/'tokenization_qwen.py').write_text("open('harmed','w')")
    c = json.loads((src/'config.json').read_text()); c['auto_map'] = {'AutoModel':'modeling_vary.X', 'AutoConfig':'modeling_vary.Y'}; (src/'config.json').write_text(json.dumps(c))
    convert(src, tmp_path/'dst'); convert(src, tmp_path/'same', 'vary-toy')
    for out in ('dst','same'): assert not list((tmp_path/out).glob('*.py')) and 'auto_map' not in (tmp_path/out/'config.json').read_text()


@pytest.mark.skipif(not os.environ.get('VARY_SLOW'), reason='two minutes and 3 GB: set VARY_SLOW=1')
def test_full_size_equals_transformers():
    out = subprocess.run([sys.executable, str(ROOT/'tests/parity_checkpoints.py')], capture_output=True, text=True, env=child_env(), check=True, timeout=1800).stdout
    rows = [json.loads(r) for r in out.splitlines() if '"model"' in r]; assert len(rows)==2
    for r in rows: assert r['parameters']==95_569_152 and r['neck']<1e-5*max(1, r['neck_std']) and r.get('tokens', 0)<1e-5*max(1, r.get('tokens_std', 1)), r
