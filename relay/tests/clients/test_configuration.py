"""Flags, their defaults, and errors about invalid ones."""

import re
import subprocess

import pytest

from harness import PROGRAM, environment

DEFAULTS = {
    "--listen": "127.0.0.1:8080",
    "--metrics-listen": "127.0.0.1:9090",
    "--healthz-details": "on",
    "--tls-cert": None,
    "--tls-key": None,
    "--admin-token-file": None,
    "--access-file": None,
    "--grace": "30s",
    "--wait-for-binary": "0s",
    "--heartbeat-interval": "30s",
    "--heartbeat-timeout": "30s",
    "--probe-timeout": "10s",
    "--write-timeout": "10s",
    "--shutdown-timeout": "10s",
    "--header-timeout": "10s",
    "--message-timeout": "30s",
    "--first-frame-timeout": "0s",
    "--access-timeout": "2s",
    "--access-headers": "authorization,x-pyrycode-token",
    "--max-connections": "10000",
    "--max-per-address": "256",
    "--max-phones": "16",
    "--max-frame": "262144",
    "--outbox": "4194304",
    "--rate-burst": "20",
    "--rate-interval": "6s",
    "--log": "info",
    "--log-format": "text",
}
FLAGS = [*DEFAULTS, "--metrics-host", "--trusted-proxies"]
INVALID = [(flag, "nowhere") for flag in ("--listen", "--metrics-listen")]
INVALID += [(flag, value) for flag, default in DEFAULTS.items() if re.fullmatch(r"\d+s", default or "")
          for value in ("soon", "30", "-1s")]
INVALID += [(flag, value) for flag, default in DEFAULTS.items() if re.fullmatch(r"\d+", default or "")
          for value in ("many", "-1", "1.5", "99999999999999999999")]
INVALID += [("--log", "a=b=c"), ("--log-format", "xml"), ("--healthz-details", "true"), ("--tls-cert", "/nowhere.pem"), ("--tls-key", "/nowhere.pem")]


def run(*arguments, **env):
    return subprocess.run(
        [PROGRAM, *arguments], env=environment(env), capture_output=True, text=True, timeout=20, check=False
    )


def refused(result, code, flag):
    assert result.returncode == code, result
    assert result.stdout == ""
    [sentence] = result.stderr.splitlines()
    assert flag in sentence
    return sentence


def variable(flag):
    return "SWITCHBOARD_" + flag.removeprefix("--").replace("-", "_").upper()


@pytest.mark.parametrize("flag", DEFAULTS)
def test_the_help_lists_each_flag_with_its_variable_and_its_default(flag):
    result = run("--help")
    assert result.returncode == 0
    # Independent of line breaks.
    words = " ".join(result.stdout.split())
    [paragraph] = re.findall(rf" ({flag} .*?)(?= -|$)", words)
    assert f"[env: {variable(flag)}=" in paragraph
    if DEFAULTS[flag]:
        assert f"[default: {DEFAULTS[flag]}]" in paragraph


@pytest.mark.parametrize(("flag", "value"), INVALID)
def test_an_invalid_value_prints_one_line_that_names_the_flag(flag, value):
    elsewhere = [] if "listen" in flag else ["--listen=127.0.0.1:0", "--metrics-listen=off"]
    refused(run(f"{flag}={value}", *elsewhere), 2, flag)
    sentence = refused(run(*elsewhere, **{variable(flag): value}), 2, flag)
    assert "panicked" not in sentence
    if not flag.startswith("--tls"):
        assert variable(flag) in sentence


def test_only_a_variable_that_is_used_is_blamed():
    sentence = refused(run("--grace=soon", SWITCHBOARD_GRACE="30s"), 2, "--grace")
    assert "SWITCHBOARD" not in sentence
    sentence = refused(run("--grace=soon", SWITCHBOARD_GRACE="later"), 2, "--grace")
    assert "soon" in sentence and "SWITCHBOARD" not in sentence
    sentence = refused(run("--grace=1s", SWITCHBOARD_MAX_PHONES="many"), 2, "--max-phones")
    assert sentence.startswith("error: SWITCHBOARD_MAX_PHONES: invalid value 'many'")


def test_a_variable_that_is_not_utf_8_is_named():
    sentence = refused(run(SWITCHBOARD_GRACE=b"\xff"), 2, "UTF-8")
    assert "SWITCHBOARD_GRACE" in sentence


async def test_a_misspelt_variable_is_warned_about(start):
    relay = await start(env={"SWITCHBOARD_MAX_PHONE": "secret", "SWITCHBOARD_MAX_PHONES": "3"})
    [warning] = [line for line in relay.log().splitlines() if "unknown variable" in line]
    assert "WARN" in warning and 'variable="SWITCHBOARD_MAX_PHONE"' in warning
    assert "secret" not in warning


@pytest.mark.parametrize("listen", ["localhost:0", ":0"])
async def test_an_address_may_be_a_name_or_all_addresses(start, listen):
    relay = await start(listen=listen, metrics_listen=listen)
    await relay.pair()
    await relay.metrics()


def test_an_unknown_flag_is_a_configuration_error():
    refused(run("--lisen", "127.0.0.1:0"), 2, "--lisen")


def test_a_certificate_needs_its_key_and_a_key_its_certificate(tmp_path):
    (tmp_path / "file.pem").write_text("not a certificate")
    for flag in ("--tls-cert", "--tls-key"):
        sentence = refused(run(flag, str(tmp_path / "file.pem")), 2, flag)
        assert "--tls-cert" in sentence and "--tls-key" in sentence


async def test_an_address_in_use_is_exit_code_1_and_the_flag_is_named(start):
    relay = await start()
    taken = "%s:%d" % relay.address
    refused(run(f"--listen={taken}", "--metrics-listen=off"), 1, "--listen")


async def test_a_metrics_address_in_use_is_exit_code_1_and_the_flag_is_named(start):
    relay = await start()
    taken = "%s:%d" % relay.address
    refused(run("--listen=127.0.0.1:0", f"--metrics-listen={taken}"), 1, "--metrics-listen")


async def test_the_environment_is_read_and_flags_override_it(start):
    env = {"SWITCHBOARD_MAX_PHONES": "1", "SWITCHBOARD_MAX_FRAME": "7"}
    relay = await start(env=env, max_frame=1000)
    binary, phone = await relay.pair()
    assert (await (await relay.any_phone()).closed())[0] == 4429
    await phone.send('"longer than seven"')
    await binary.frame()


async def test_an_empty_variable_counts_as_unset(start):
    env = {variable(flag): "" for flag in FLAGS}
    relay = await start(env=env)
    await relay.pair()


@pytest.mark.parametrize("flag", FLAGS)
def test_an_invalid_variable_is_an_error_among_empty_ones(flag):
    env = {variable(it): "" for it in FLAGS} | {variable(flag): "[wrong"}
    sentence = refused(run(**env), 2, flag.removesuffix("-key").removesuffix("-cert"))
    assert "panicked" not in sentence


def test_the_version_is_printed():
    result = run("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"switchboard-relay \d+\.\d+\.\d+\n", result.stdout)
