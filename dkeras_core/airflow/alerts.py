"""Tells people that a run has failed or is late: by mail, and by a webhook such as a chat's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import BaseNotifier

from dkeras_core.airflow.text import in_words, state_of

LATE = "is late"
_TIMEOUT = 10.0


class Alert(BaseNotifier):
    """One message to everybody named. What cannot be delivered is logged, and fails nothing.

    Parameters
    ----------
    what : str
        "failed", :data:`LATE` (of a run that is not over).
    dag : str
        Id of the DAG.
    mail : sequence of str
        Addresses; sent by the connection ``smtp_default``.
    webhook : str, optional
        Id of a connection: its host is the address (``https://…``), its password a bearer token where one is needed.
        It is sent ``{"text": …}``, which Slack, Mattermost and Teams' workflows read.
    """

    def __init__(self, what: str, dag: str, mail: Sequence[str] = (), webhook: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.what, self.dag, self.mail, self.webhook = what, dag, tuple(mail), webhook

    def notify(self, context: Mapping[str, Any]) -> None:
        if self.what == LATE and state_of(context) in ("success", "failed"):
            # Airflow drops the deadlines of runs that have succeeded, not of those that have failed.
            self.log.info("the run is over and told of already")
            return
        subject, text = self.message(context)
        self.log.warning("%s", text)
        for send in (self._mail, self._post):
            try:
                send(subject, text)
            except Exception as error:  # a chat that is down must not hide the failure that it should tell of
                self.log.error("%s could not be told: %s", send.__name__.strip("_"), error)

    async def async_notify(self, context: Mapping[str, Any]) -> None:
        from asgiref.sync import sync_to_async

        await sync_to_async(self.notify)(context)

    def message(self, context: Mapping[str, Any]) -> tuple[str, str]:
        """Return subject and text."""
        from airflow.sdk.configuration import conf

        return in_words(self.what, self.dag, context, conf.get("api", "base_url", fallback=""))

    def _mail(self, subject: str, text: str) -> None:
        if self.mail:
            from airflow.providers.smtp.hooks.smtp import SmtpHook

            with SmtpHook() as hook:
                hook.send_email_smtp(to=list(self.mail), subject=subject, html_content=f"<pre>{text}</pre>")

    def _post(self, subject: str, text: str) -> None:
        if self.webhook:
            import requests
            from airflow.sdk import BaseHook

            connection = BaseHook.get_connection(self.webhook)
            host = connection.host if "://" in connection.host else f"https://{connection.host}"
            headers = {"Authorization": f"Bearer {connection.password}"} if connection.password else {}
            requests.post(host, json={"text": text}, headers=headers, timeout=_TIMEOUT).raise_for_status()
