"Fixtures for all tests. Nothing here, nor in any test, reaches beyond this machine."
import os, shutil, socket

import pytest

from helpers import ENV

os.environ.update({k:v for k,v in ENV.items() if k!='PYTHONPATH'})


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    "A connection to another machine is an error."
    connect = socket.socket.connect
    def local_only(self, address):
        if self.family!=socket.AF_UNIX and str(address[0]) not in ('127.0.0.1', '::1', 'localhost', '0.0.0.0'):
            raise AssertionError(f'a test wants to connect to {address}')
        return connect(self, address)
    monkeypatch.setattr(socket.socket, 'connect', local_only)


@pytest.fixture
def vary(capsys):
    "The command line without a new process: vary('read', file, ...) -> (exit code, stdout, stderr)."
    def run(*args):
        from vary_nb.cli import main
        capsys.readouterr()
        try: status = main([str(a) for a in args])
        except SystemExit as e: status = e.code
        return status or 0, *capsys.readouterr()
    return run


@pytest.fixture(scope='session')
def micro(tmp_path_factory):
    "A folder with untrained weights of the smallest size, as `save_pretrained` writes it."
    import torch
    from vary_nb.model.vary import build
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('weights')/'micro'
    model,processor = build('micro')
    model.save_pretrained(folder); processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope='session')
def browser(tmp_path_factory):
    "Headless Chromium with a profile of its own."
    found = {name: shutil.which(name) for name in ('chromium','chromedriver')}
    found['chromium'] = found['chromium'] or shutil.which('google-chrome') or shutil.which('chromium-browser')
    if not all(found.values()): pytest.skip(f'browser tests need Chromium and chromedriver (make system): {found}')
    from selenium import webdriver
    options = webdriver.ChromeOptions(); options.binary_location = found['chromium']
    options.set_capability('goog:loggingPrefs', {'browser':'ALL'})
    for flag in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
                 '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(found['chromedriver']))
    yield driver
    driver.quit()
