"An engine for tests of the loop: a few characters in PIL's own font, no font search."
from PIL import Image, ImageDraw

from vary_nb.core import Sample, rng


class Words:
    "Random capital letters; all texts equally long, so that a mean over processes is a mean over characters."
    def __init__(self,
        seed:int=0,
        n:int=10_000,
        size=(32,64),  # height, width
        length:int=5,  # characters
    ): self.seed,self.n,self.size,self.length = seed,n,size,length

    def __len__(self): return self.n

    def __getitem__(self, i):
        text = ''.join(chr(65+k) for k in rng(self.seed, 'words', i).integers(26, size=self.length))
        im = Image.new('RGB', self.size[::-1], 'white'); ImageDraw.Draw(im).text((4,8), text, fill='black')
        return Sample([im], [('',text)])
