"An engine for tests of the loop: a few characters in PIL's own font, no font search."
from PIL import Image, ImageDraw

from vary_nb.core import Sample, rng


class Words:
    "Random capital letters, by number."
    def __init__(self,
        seed:int=0,
        n:int=10_000,
        size=(32,64),  # height, width
        length:int=5,  # most characters
        shortest:int=0, # fewest; 0: all texts are equally long
    ): self.seed,self.n,self.size,self.length,self.shortest = seed,n,size,length,shortest

    def __len__(self): return self.n

    def __getitem__(self, i):
        r = rng(self.seed, 'words', i); n = int(r.integers(self.shortest, self.length+1)) if self.shortest else self.length
        text = ''.join(chr(65+k) for k in r.integers(26, size=n))
        im = Image.new('RGB', self.size[::-1], 'white'); ImageDraw.Draw(im).text((4,8), text, fill='black')
        return Sample([im], [('',text)])
