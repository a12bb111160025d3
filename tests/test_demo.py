"The demo as its users meet it: `vary-nb demo`, asked by a program and by a browser."
import os, subprocess, time, urllib.request

import pytest
from PIL import Image, ImageDraw

from helpers import free_port, make_pdf, start


@pytest.fixture(scope='module')
def address(micro):
    "Where `vary-nb demo` listens, with untrained weights."
    port = free_port(); url = f'http://127.0.0.1:{port}'
    p = start('-c', 'import sys; from vary_nb.cli import main; sys.exit(main())', 'demo', '--weights', micro, '--port', port)
    for _ in range(900):
        try: urllib.request.urlopen(url, timeout=5); break
        except OSError: assert p.poll() is None, p.communicate()[1][-1500:]; time.sleep(.1)
    else: os.killpg(p.pid, 9); raise AssertionError(f'no answer in time: {p.communicate()[1][-1500:]}')
    yield url
    os.killpg(p.pid, 2) # Ctrl-C; a browser that still listens can hold the server up for a while
    try: p.communicate(timeout=20)
    except subprocess.TimeoutExpired: os.killpg(p.pid, 9); p.communicate()


def test_a_program_asks(address, tmp_path, micro):
    "The text that comes over the wire is the text the reader gives here; a bad file is answered in words."
    from gradio_client import Client, handle_file
    from vary_nb.reader import Reader
    im = Image.new('RGB', (320,60), 'white'); ImageDraw.Draw(im).text((8,20), 'a line of text', fill='black')
    im.save(tmp_path/'line.png'); (tmp_path/'report.pdf').write_bytes(b'')
    client = Client(address, verbose=False); ask = lambda name: client.predict(handle_file(tmp_path/name), '', '', api_name='/read')
    text = ask('line.png')
    assert text.strip() and text==Reader(micro).read(tmp_path/'line.png')[0].text
    with pytest.raises(Exception, match='report.pdf.*empty'): ask('report.pdf')


@pytest.mark.browser
def test_a_visitor_is_told(browser, address, tmp_path):
    "A locked file is answered in words, without the server's paths; a pasted picture is shown."
    from selenium.webdriver.support.ui import WebDriverWait
    wait = WebDriverWait(browser, 30); find = lambda css: browser.find_elements('css selector', css)
    path = make_pdf(tmp_path/'locked.pdf', encryption=4, user_pw='x', owner_pw='y')
    browser.get(address)
    wait.until(lambda b: find('#source input[type=file]'))[0].send_keys(str(path))
    told = wait.until(lambda b: [e.text for e in find('.toast-body') if 'locked.pdf' in e.text])[0]
    assert 'encrypted' in told and '/' not in told and not find('#picture img')
    browser.get(address); wait.until(lambda b: find('#go'))
    browser.execute_script("""const c = document.createElement('canvas'); c.width = 300; c.height = 60; c.getContext('2d').fillText('pasted', 9, 30);
        c.toBlob(b => { const t = new DataTransfer(); t.items.add(new File([b], 'pasted.png', {type: 'image/png'}));
        document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: t})) })""")
    wait.until(lambda b: find('#picture img'))


WIDE = 'return [document.documentElement.scrollWidth, window.innerWidth]'

@pytest.mark.browser
def test_a_visitor(browser, address):
    "Click the English example, then Read: the page and a text appear; nothing comes from elsewhere; it fits a telephone."
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
    wait = WebDriverWait(browser, 60); one = lambda css: browser.find_element(By.CSS_SELECTOR, css)
    size = lambda w,h: browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=w, height=h, deviceScaleFactor=1, mobile=False))
    size(1440, 900); browser.get(address)
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, '#go'))
    example = wait.until(lambda b: [e for e in b.find_elements(By.CSS_SELECTOR, 'button') if e.text.strip()=='English'])[0]
    assert one('#text textarea').get_attribute('value')==''
    example.click()
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, '#picture img'))
    one('#go').click()
    wait.until(lambda b: one('#text textarea').get_attribute('value').strip())
    wait.until(lambda b: ' s' in one('#state').text)
    for w,h in ((1440,900), (390,844)):
        size(w, h); time.sleep(.5)
        content,window = browser.execute_script(WIDE)
        assert window==w and content<=window, f'{content} px wide in a window of {window}'
    assert one('#go').is_displayed() and one('#text').is_displayed()
    urls = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert urls and not [u for u in urls if not u.startswith((address, 'data:', 'blob:'))]
    assert not [e['message'] for e in browser.get_log('browser') if e['level']=='SEVERE' and address in e['message']]
    browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
