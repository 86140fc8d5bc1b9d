"""libpurple 2 with its XMPP plug-in, driven by JSON lines. See purple.py; what is of libpurple itself is in bonjour_agent.py."""

import os
import tempfile

import bonjour_agent
from bonjour_agent import Int, Library, Pointer, Text, glib, plain, purple, tell, text

XMPP, CHAT = b"prpl-jabber", 2  # PurpleConversationType
KINDS = {4: 2, 5: 3}  # SOCKS version: PurpleProxyType

hashes = Library("libglib-2.0.so.0", {
    "g_hash_table_new": (Pointer, Pointer, Pointer), "g_hash_table_insert": (Int, Pointer, Pointer, Pointer), "g_strdup": (Pointer, Text),
})
more = Library("libpurple.so.0", {
    "purple_account_set_password": (None, Pointer, Text), "purple_account_set_bool": (None, Pointer, Text, Int),
    "purple_account_get_connection": (Pointer, Pointer), "purple_account_set_proxy_info": (None, Pointer, Pointer),
    "purple_proxy_info_new": (Pointer,), "purple_proxy_info_set_type": (None, Pointer, Int), "purple_proxy_info_set_host": (None, Pointer, Text),
    "purple_proxy_info_set_port": (None, Pointer, Int), "serv_join_chat": (None, Pointer, Pointer),
    "purple_find_conversation_with_account": (Pointer, Int, Text, Pointer), "purple_conversation_get_chat_data": (Pointer, Pointer),
    "purple_conversation_get_name": (Text, Pointer), "purple_conv_chat_send": (None, Pointer, Text), "purple_xfers_get_handle": (Pointer,),
    "purple_xfer_get_filename": (Text, Pointer), "purple_xfer_get_remote_user": (Text, Pointer),
})


class Agent(bonjour_agent.Agent):
    def __init__(self, folder):
        super().__init__(folder)
        if not purple.purple_find_prpl(XMPP):
            raise SystemExit("libpurple's XMPP plug-in is not usable")
        self._on(purple.purple_conversations_get_handle(), b"received-chat-msg", lambda account, sender, body, conversation, flags, _:
                 tell(event="chat", room=text(more.purple_conversation_get_name(conversation)), body=plain(text(body)), **{"from": text(sender)}),
                 Pointer, Text, Text, Pointer, Int)
        self._on(more.purple_xfers_get_handle(), b"file-recv-request", lambda transfer, _:
                 tell(event="offer", name=text(more.purple_xfer_get_filename(transfer)), **{"from": text(more.purple_xfer_get_remote_user(transfer))}),
                 Pointer)

    def do_login(self, jid, password, server="127.0.0.1", port=5222, proxy=None):
        """As JID, without TLS. The session is up at the event signed-on."""
        account = self.account = purple.purple_account_new(f"{jid}/purple".encode(), XMPP)
        more.purple_account_set_password(account, password.encode())
        for key, value in (("connect_server", server), ("connection_security", "opportunistic_tls")):
            purple.purple_account_set_string(account, key.encode(), value.encode())
        purple.purple_account_set_int(account, b"port", port)
        more.purple_account_set_bool(account, b"auth_plain_in_clear", 1)
        if proxy:
            version, host, at = proxy
            info = more.purple_proxy_info_new()
            more.purple_proxy_info_set_type(info, KINDS[version])
            more.purple_proxy_info_set_host(info, host.encode())
            more.purple_proxy_info_set_port(info, at)
            more.purple_account_set_proxy_info(account, info)
        purple.purple_accounts_add(account)
        self.do_status("available")
        self.do_enable()

    def do_join(self, room, nick):
        """A room NAME@SERVER."""
        name, server = room.split("@")
        fields = hashes.g_hash_table_new(hashes.address("g_str_hash"), hashes.address("g_str_equal"))
        for key, value in (("room", name), ("server", server), ("handle", nick)):
            hashes.g_hash_table_insert(fields, hashes.g_strdup(key.encode()), hashes.g_strdup(value.encode()))
        more.serv_join_chat(more.purple_account_get_connection(self.account), fields)

    def do_say(self, room, body):
        """In a room that was joined."""
        conversation = more.purple_find_conversation_with_account(CHAT, room.encode(), self.account)
        assert conversation, f"not in {room}"
        more.purple_conv_chat_send(more.purple_conversation_get_chat_data(conversation), body.encode())

    def do_inside(self, room):
        return bool(more.purple_find_conversation_with_account(CHAT, room.encode(), self.account))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="purple-", dir=os.environ.get("HOME")) as profile:
        Agent(profile).run()
