import importlib.util

import pytest

from envs.builder.specs import ENVS


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("pip_settings", ENVS / "pip_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_and_variables_of_pip_become_variables_of_uv(module):
    listing = "\n".join(
        [
            "global.index-url='https://index.example/simple'",
            "install.index-url='https://narrower.example/simple'",
            "freeze.timeout='10'",
            "global.cert='/etc/a.pem'",
            ":env:.cert='/etc/b.pem'",
            "global.extra-index-url='\\nhttps://one.example\\nhttps://two.example'",
            "global.trusted-host='index.example'",
        ]
    )
    assert module.uv_variables(module.pip_settings(listing)) == {
        "UV_DEFAULT_INDEX": "https://narrower.example/simple",
        "SSL_CERT_FILE": "/etc/b.pem",
        "UV_INDEX": "https://one.example https://two.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "index.example",
    }


def test_nothing_set_gives_nothing(module):
    assert module.uv_variables(module.pip_settings("")) == {}


def test_a_value_with_spaces_survives_the_shell(module, monkeypatch, capsys):
    monkeypatch.setenv("PIP_CERT", "/a folder/it's.pem")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    module.main()
    assert "export SSL_CERT_FILE='/a folder/it'\"'\"'s.pem'" in capsys.readouterr().out
