"The weights that come with the package, through the reader, on pages of our own text."
import pytest
from PIL import Image

from vary_nb.data.corpus import builtin_fonts, cjk_font
from vary_nb.data.text import TextPages
from vary_nb.metrics import cer
from vary_nb.model.vary import shipped
from vary_nb.reader import Reader


@pytest.mark.parametrize('lang,most', [('en',.2), ('zh',.3)])
def test_nano_reads(lang, most):
    "Clean print of sixteen pixels: most characters are right, and they come from the picture."
    assert 'nano' in shipped()
    fonts = [cjk_font()] if lang=='zh' else [f for f in builtin_fonts() if f.name in ('NimbusRoman-Regular','NimbusSans-Regular')]
    pages = TextPages(lang=lang, seed=7, size=(288,576), text_px=(16,16), random_share=0, fonts=fonts, wear=0)
    truth = [pages[k] for k in range(3)]; reader = Reader('nano', 'cpu')
    assert cer([reader.read(s.images[0])[0].text for s in truth], [s.text for s in truth])<most
    blank = reader.read(Image.new('RGB', (576,288), 'white'))[0].text
    assert cer([blank]*3, [s.text for s in truth])>.9
