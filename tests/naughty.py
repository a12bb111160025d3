"What a native library does on a bad day; a module of its own, small, because child processes import it."
import ctypes, time


def work(what):
    if what=='crash': ctypes.string_at(0)
    if what=='hang':
        while True: pass
    if what=='hog': return [bytearray(1<<26) for _ in range(100)]
    if what.endswith('.pdf'):
        import pymupdf
        return pymupdf.open(what)[0].get_pixmap().size
    return what

def worker(): return work


def stuck():
    "Never gets as far as a function."
    time.sleep(60)
