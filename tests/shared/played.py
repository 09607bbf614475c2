"""What the tests of the operator play: a ResourceManager, and a folder with a command in place of HDFS and `dkeras`."""

import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from dkeras_core.airflow.tags import task_tag

TAG = task_tag("retrain", "manual", "train")


class Played:
    """A ResourceManager: knows ``apps``, ends what is killed unless told otherwise, and may be silent or a standby."""

    def __init__(self):
        self.apps, self.killed, self.asked = {}, [], 0
        self.refuses_kill = self.ignores_kill = False
        self.silent_until, self.standby_of, self.ends_after = 0.0, None, None
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                played.asked += 1
                if time.monotonic() < played.silent_until:
                    return self.connection_close()
                if played.standby_of:
                    return self.say(307, {}, Location=f"{played.standby_of}{self.path}")
                path, _, query = self.path.partition("?")
                if path.endswith("/apps"):
                    live = "RUNNING" in query
                    states = ("ACCEPTED", "RUNNING") if live else ("FINISHED", "FAILED", "KILLED")
                    found = [app for app in played.apps.values() if not live or app["state"] in states]
                    (asked,) = parse_qs(query)["applicationTags"]
                    found = [app for app in found if set(asked.split(",")) & set(app["applicationTags"].split(","))]
                    return self.say(200, {"apps": {"app": found}})
                app = played.apps.get(path.split("/")[-1])
                if app and played.ends_after is not None:
                    played.ends_after -= 1
                    if played.ends_after < 0:
                        app.update(state="FINISHED", finalStatus="SUCCEEDED")
                return self.say(200, {"app": app}) if app else self.say(404, {})

            def do_PUT(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                app = self.path.split("/")[-2]
                if played.refuses_kill:
                    return self.say(401, {"RemoteException": {"message": "no ticket"}})
                played.killed.append(app)
                if not played.ignores_kill:
                    played.apps[app].update(state="KILLED", finalStatus="KILLED")
                return self.say(202, {"state": "ACCEPTED"})

            def connection_close(self):
                self.close_connection = True
                self.connection.close()

            def say(self, status, content, **headers):
                data = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(data)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def has(self, number, state="RUNNING", started=1000, tag=TAG, diagnostics=""):
        name = f"application_7_{number:04}"
        final = {"FINISHED": "SUCCEEDED", "FAILED": "FAILED", "KILLED": "KILLED"}.get(state, "UNDEFINED")
        self.apps[name] = {"id": name, "state": state, "finalStatus": final, "startedTime": started}
        self.apps[name] |= {"applicationTags": tag, "diagnostics": diagnostics}
        return name


class Stage:
    """A folder in HDFS' place, a command that plays `dkeras`, and the ResourceManagers' addresses."""

    def __init__(self, folder: Path, player: subprocess.Popen, *rms: Played):
        self.folder, self.player = folder, player
        self.root = folder / "root"
        self.run = self.root / "runs/the-run"
        self.run.mkdir(parents=True)
        self.said = ""
        self.cluster(*(rm.address for rm in rms))
        self.answers({"run": "the-run", "application": "application_7_0009", "adopted": False})

    def cluster(self, *addresses):
        yarn = {"yarn.resourcemanager.ha.enabled": "true", "yarn.resourcemanager.ha.rm-ids": ""}
        for index, address in enumerate(addresses):
            yarn["yarn.resourcemanager.ha.rm-ids"] += f"{',' if index else ''}rm{index}"
            yarn[f"yarn.resourcemanager.webapp.address.rm{index}"] = address
        hdfs = {"fs.defaultFS": "hdfs://127.0.0.1:1", "dfs.namenode.http-address": "127.0.0.1:1"}
        for name, keys in (("core-site.xml", hdfs), ("hdfs-site.xml", hdfs), ("yarn-site.xml", yarn)):
            rows = "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in keys.items())
            (self.folder / name).write_text(f"<configuration>{rows}</configuration>")

    def answers(self, answer=None, code=0, says=""):
        """What the command does."""
        command = self.folder / "dkeras"
        text = json.dumps(answer) if answer else ""
        command.write_text(
            f"#!/bin/sh\necho \"$@\" >> {self.folder}/calls\nprintf '{says}' >&2\ncat <<'E'\n{text}\nE\nexit {code}\n"
        )
        command.chmod(0o755)

    @property
    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def result(self, application, status="succeeded", tag=TAG, **more):
        content = {"run": "the-run", "application": application, "status": status, "tag": tag, **more}
        (self.run / "result.json").write_text(json.dumps(content))

    def play(self, what, call, **asked):
        environment = {"HADOOP_CONF_DIR": str(self.folder), "DKERAS_COMMAND": str(self.folder / "dkeras")}
        asked |= {"what": what, "call": call, "root": f"file://{self.root}", "environment": environment}
        self.player.stdin.write(json.dumps(asked) + "\n")
        self.player.stdin.flush()
        answer = json.loads(self.player.stdout.readline())
        self.said = answer["said"]
        return answer

    def execute(self, **asked):
        return self.play("operator", "execute", **asked)

    def complete(self, application, end="ended", **asked):
        event = {"application": application, "end": end, "message": "m"}
        return self.play("operator", "complete", event=event, **asked)

    def follow(self, application, call="follow", deadline=None, on_pause="kill", **asked):
        arguments = {"application": application, "run": "the-run", "root": f"file://{self.root}"}
        arguments |= {"deadline": deadline, "poll": 0.1, "on_pause": on_pause}
        return self.play("trigger", call, arguments=arguments, **asked)
