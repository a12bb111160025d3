"Looking into a network must not change it, must agree with what it computes, and must find what was planted and nothing else."
import numpy as np
import pytest
import torch
from PIL import Image

from vary_nb.core import BadInput, Sample
from vary_nb.model.vary import build
from vary_nb.model.vocabulary import VaryVisionConfig, VisionVocabulary
from vary_nb.probe import (attention_map, drop_tokens, edited, finger_hits, follow, glyph_tokens, linear_probe, nearest_tokens,
    occlusion_field, pca_map, radius, receptive_field, shuffle_tokens, stages, token_effect, wilson)


def vocabulary(seed=0, **kw):
    "A tiny network with weights large enough that attention and places matter."
    torch.manual_seed(seed)
    net = VisionVocabulary(VaryVisionConfig.micro(**kw)).eval()
    for p in net.parameters(): torch.nn.init.normal_(p, std=.3)
    return net

@pytest.fixture(scope='module')
def reader():
    torch.manual_seed(1)
    model,processor = build('micro')
    for p in model.language_model.parameters(): torch.nn.init.normal_(p, std=.3)
    return model.eval(), processor

@pytest.fixture(scope='module')
def picture():
    a = np.random.default_rng(0).integers(0, 256, (32,96,3), np.uint8)
    return Image.fromarray(a)

def words(i):
    "Two random rows of letters on noise; glyphs 9 pixels wide."
    r = np.random.default_rng(i); rows = [''.join(chr(65+k) for k in r.integers(26, size=4+i)) for _ in range(2)]
    glyphs = [(ord(c), 9*x, 32*y, 9*x+9, 32*y+20) for y,row in enumerate(rows) for x,c in enumerate(row)]
    return Sample([Image.fromarray(r.integers(0, 256, (64,96,3), np.uint8))], [('', '\n'.join(rows))], glyphs=np.array(glyphs, np.int32))

def noise(h=64, w=96, b=1): return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(3))


# the eye

def test_listening_changes_nothing_and_leaves_nothing(reader):
    net,x = vocabulary(),noise(b=2)
    with torch.no_grad(): want,maps = net.features(x),stages(net, x)
    assert torch.equal(maps['neck'], want[0]) and torch.equal(maps['token'], want[1])
    assert [tuple(maps[k].shape) for k in ('stem','block 2','token')]==[(2,32,8,12), (2,32,8,12), (2,64,2,3)]
    with pytest.raises(BadInput): stages(net, noise(64, 100))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert list(stages(reader[0], noise(32, 64)))==['stem', 'block 0', 'block 1', 'neck', 'token']   # a whole model too


@pytest.mark.parametrize('row,col', [(0,0), (4,7), (7,11), (2,3)])
def test_windows_bound_the_field(row, col):
    net,x = vocabulary(global_layers=()),noise()                            # windows of 3 cells of 8 pixels; the map is 8 x 12
    want = torch.zeros(64, 96, dtype=torch.bool); want[row//3*24:row//3*24+24, col//3*24:col//3*24+24] = True
    assert torch.equal(receptive_field(net, x, row, col, 'block 2')>0, want)
    jump = occlusion_field(net, x, row, col, 'block 2')
    assert torch.equal(jump.repeat_interleave(8, 0).repeat_interleave(8, 1)>0, want)


def test_a_global_layer_hears_everything():
    assert (receptive_field(vocabulary(), noise(), 0, 0, 'block 2')>0).all()
    assert not (receptive_field(vocabulary(), noise(), 0, 0, 'block 1')>0).all()


def test_signs_give_the_length_of_all_derivatives():
    net,x = vocabulary(),noise(32, 32)
    exact = torch.autograd.functional.jacobian(lambda z: stages(net, z)['token'][0,:,0,0], x)
    got = receptive_field(net, x, 0, 0, draws=256)
    want = exact.square().sum((0,1,2)).sqrt()
    assert ((got-want).abs() < .35*want).float().mean() > .95 and abs(got.square().sum()/want.square().sum()-1) < .05
    assert torch.equal(receptive_field(net, x, 0, 0, seed=4), receptive_field(net, x, 0, 0, seed=4))


def test_radius_of_a_ring():
    y,x = torch.meshgrid(torch.arange(101)+.5, torch.arange(101)+.5, indexing='ij')
    far = ((y-50.5)**2+(x-50.5)**2).sqrt(); ring = ((far>29) & (far<31)).float()
    assert all(29<=radius(ring, (50.5,50.5), s)<=31 for s in (.05, .5, .95))
    assert radius(7*ring, (50.5,50.5))==radius(ring, (50.5,50.5))


def test_colours_depend_on_nothing_arbitrary():
    g = torch.Generator().manual_seed(0)
    m = torch.randn(2, 12, 5, 7, generator=g).exp(); turn = torch.linalg.qr(torch.randn(12, 12, generator=g))[0]
    colours,share = pca_map(m)
    for other in (-m, 5*m+2, torch.einsum('de,behw->bdhw', turn, m)): torch.testing.assert_close(pca_map(other)[0], colours, atol=1e-3, rtol=0)
    torch.testing.assert_close(pca_map(m.flip(-1))[0].flip(2), colours, atol=1e-3, rtol=0)
    assert 0<=colours.min() and colours.max()<=1 and share.diff().max()<=0 and abs(share.sum()-1)<1e-5


@pytest.mark.parametrize('layer,row,col', [(2,0,0), (2,7,11), (0,4,7), (1,0,2)])
def test_attention_is_what_the_layer_computes(layer, row, col):
    net,x,kept = vocabulary(),noise(),{}; block = net.blocks[layer]; s = block.window
    p = attention_map(net, x, layer, row, col)
    torch.testing.assert_close(p.sum((1,2)), torch.ones(2))
    hook = block.attn.register_forward_hook(lambda m, args, out: kept.update(y=args[0], out=out))
    with torch.no_grad(): net(x)
    hook.remove()
    at = row//s*4 + col//s if s else 0                                      # 12 columns: four windows in a row
    if s:
        outside = p.clone(); outside[:, row//s*s:row//s*s+s, col//s*s:col//s*s+s] = 0; assert outside.sum()==0
        p,row,col = p[:, row//s*s:row//s*s+s, col//s*s:col//s*s+s],row%s,col%s
    v = block.attn.qkv(kept['y'][at]).chunk(3, -1)[2].unflatten(-1, (2, -1))
    torch.testing.assert_close(block.attn.proj(torch.einsum('khw,hwke->ke', p, v).flatten()), kept['out'][at,row,col], atol=1e-4, rtol=1e-4)


def test_parts_of_attention_add_up():
    net,x = vocabulary(),noise()
    whole,content,position = (attention_map(net, x, 2, 3, 5, part) for part in ('all','content','position'))
    product = content*position; torch.testing.assert_close(product/product.sum((1,2), keepdim=True), whole, atol=1e-5, rtol=1e-4)
    a = net.blocks[2].attn; torch.nn.init.zeros_(a.rel_pos_h), torch.nn.init.zeros_(a.rel_pos_w)
    torch.testing.assert_close(attention_map(net, x, 2, 3, 5), attention_map(net, x, 2, 3, 5, 'content'))
    with pytest.raises(BadInput, match='part='): attention_map(net, x, 2, 0, 0, 'both')


# numbers

def test_a_probe_finds_what_was_planted_and_nothing_in_noise():
    g = torch.Generator().manual_seed(0); f,h = torch.randn(500, 40, generator=g),torch.randn(400, 40, generator=g)
    w = torch.randn(40, 4, generator=g); label = lambda z: (z@w).argmax(1)+10
    share = lambda a, b: float((a==b).float().mean())
    assert share(linear_probe(f, label(f), h), label(h)) > .75
    mixed = label(f)[torch.randperm(500, generator=g)]
    low,high = wilson(int((linear_probe(f, mixed, h)==label(h)).sum()), 400); assert low < .35 and high < .45   # a control task: near a quarter
    value = f@w[:,0]*3-5; torch.testing.assert_close(linear_probe(f, value, h), h@w[:,0]*3-5, atol=.2, rtol=0)
    assert set(linear_probe(f, label(f), h).tolist())<={10,11,12,13}


def test_a_probe_survives_odd_features():
    g = torch.Generator().manual_seed(0); f = torch.randn(30, 200, generator=g); f[:,0] = 1.; f[:,1] = f[:,2]   # wider than long, constant, double
    guess = linear_probe(f, (f[:,3]>0).long(), torch.randn(50, 200, generator=g))
    assert set(guess.tolist())<={0,1} and linear_probe(f, f[:,3], f).isfinite().all()
    assert (linear_probe(f, torch.zeros(30, dtype=torch.long), f)==0).all()                # one class


def test_wilson_covers():
    r = np.random.default_rng(0)
    for p,n in ((.03,40), (.5,25), (.9,100)):
        inside = [low<=p<=high for low,high in (wilson(int(k), n) for k in r.binomial(n, p, 2000))]
        assert .91 < np.mean(inside) < .99
    assert all(0<=wilson(k, 7)[0]<=k/7<=wilson(k, 7)[1]<=1 for k in range(8))


def test_neighbours_do_not_depend_on_the_axes():
    g = torch.Generator().manual_seed(0); bank,query = torch.randn(50, 8, generator=g),torch.randn(6, 8, generator=g)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=g))[0]
    sim,at = nearest_tokens(query, bank, 4); other,there = nearest_tokens(3*query@turn+1, 3*bank@turn+1, 4)
    assert torch.equal(at, there) and sim.diff(dim=1).max()<=0
    torch.testing.assert_close(sim, other, atol=1e-4, rtol=0)


# the hand

def test_follow_agrees_with_the_model(reader, picture):
    model,processor = reader
    x = processor(images=[picture]); ids = model.generate(**x, max_new_tokens=12, do_sample=False)
    r = follow(model, processor, picture, most=12)
    assert ''.join(r.pieces)==processor.decode_new(ids, x)[0] and (r.rows, r.cols)==(1,3)
    text = 'ab 中'; r = follow(model, processor, picture, text); n = x['input_ids'].shape[1]
    told = torch.tensor([processor.tokenizer(text).input_ids + [processor.tokenizer.eos_token_id]])
    with torch.no_grad():
        out = model(input_ids=torch.cat([x['input_ids'], told], 1), pixel_values=x['pixel_values'],
            position_ids=torch.cat([x['position_ids'], model.config.text_start+torch.arange(5)[None]], 1))
    logp = out.logits[0, n-1:-1].log_softmax(-1)
    torch.testing.assert_close(r.logp, logp.gather(-1, told[0,:,None])[:,0], atol=1e-4, rtol=1e-4)
    assert r.pieces[:4]==list(text) and r.attention.shape==(2,2,5,3) and (r.attention.sum(-1)<1).all()


def test_attention_is_put_back_even_after_an_error(reader, picture):
    model,processor = reader; before = model.language_model.config._attn_implementation
    with pytest.raises(ValueError), edited(model, lambda f: f[:, :2]): follow(model, processor, picture, 'ab')   # a token too few
    assert model.language_model.config._attn_implementation==before
    with pytest.raises(ZeroDivisionError), edited(model, lambda f: 1/0): model.get_image_features(processor(images=[picture])['pixel_values'])
    assert 'get_image_features' not in vars(model)


def test_cutting_a_token_two_ways(reader, picture):
    model,processor = reader; e = token_effect(model, processor, picture, 'abc')
    plain = follow(model, processor, picture, 'abc').logp
    for i in range(3):
        with edited(model, lambda f: f*(torch.arange(3)!=i)[:,None]): cut = follow(model, processor, picture, 'abc').logp
        torch.testing.assert_close(plain-cut, e[:,i], atol=1e-4, rtol=1e-3)


def test_a_planted_finger_is_found(reader):
    model,processor = reader; samples = [words(i) for i in range(3)]
    places = [glyph_tokens(s, 32) for s in samples]; readings = [follow(model, processor, s.images[0], s.text) for s in samples]
    for r,where in zip(readings, places):
        r.attention.zero_()
        for t,p in enumerate(where):
            if p: r.attention[1,0,t,p[0]*r.cols+p[1]] = 1.
    hits,n = finger_hits(readings, places)
    assert n==sum(not c.isspace() for s in samples for c in s.text) and hits[1,0]==n
    assert all(p is None or (0<=p[0]<r.rows and 0<=p[1]<r.cols) for r,where in zip(readings, places) for p in where)


def test_edits_of_tokens():
    t = torch.arange(1., 25).view(2, 12, 1)
    for how in ('any','rows','cols','back'):
        out = shuffle_tokens(t, 3, how, seed=5); assert torch.equal(out.sort(1)[0], t) and torch.equal(out[1]-12, out[0])
    grid = shuffle_tokens(t, 3, 'cols', seed=2)[0].view(3, 4); assert torch.equal(grid.diff(dim=0), torch.full((2,4), 4.))
    gone = [(drop_tokens(t.repeat(4,1,1), 5, seed=s)==0)[...,0] for s in (0,1)]
    assert (gone[0].sum(1)==5).all() and not torch.equal(*gone) and len({tuple(g.tolist()) for g in gone[0]})>1
    with pytest.raises(BadInput): shuffle_tokens(t, 3, 'sideways')
