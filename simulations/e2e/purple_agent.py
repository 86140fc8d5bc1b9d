"""libpurple 2 with its XMPP plug-in, driven by JSON lines. See purple.py; what is of libpurple itself is in bonjour_agent.py."""

import ctypes
import os
import pathlib
import tempfile

import bonjour_agent
from bonjour_agent import Int, Library, Pointer, Text, callback, glib, plain, purple, table, tell, text

XMPP, CHAT = b"prpl-jabber", 2  # PurpleConversationType
KINDS = {4: 2, 5: 3}  # SOCKS version: PurpleProxyType
INPUT, FIELDS, STRING = 0, 3, 1  # PurpleRequestType, PurpleRequestFieldType

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
    "purple_request_set_ui_ops": (None, Pointer), "purple_request_close": (None, Int, Pointer),
    "purple_request_fields_get_groups": (Pointer, Pointer), "purple_request_field_group_get_fields": (Pointer, Pointer),
    "purple_request_field_get_label": (Text, Pointer), "purple_request_field_get_type": (Int, Pointer), "purple_request_field_is_visible": (Int, Pointer),
    "purple_request_field_string_set_value": (None, Pointer, Text), "purple_notify_set_ui_ops": (None, Pointer),
    "purple_notify_searchresults_get_columns_count": (ctypes.c_uint, Pointer), "purple_notify_searchresults_get_rows_count": (ctypes.c_uint, Pointer),
    "purple_notify_searchresults_column_get_title": (Text, Pointer, ctypes.c_uint),
    "purple_notify_searchresults_row_get": (Pointer, Pointer, ctypes.c_uint),
})


jabber = Library(str(next(pathlib.Path("/usr/lib").glob("*/purple-2/libjabber.so.0"))), {"jabber_user_search_begin": (None, Pointer)})


def each(node):
    """What is in a GList."""
    while node:
        data, node, _ = (Pointer * 3).from_address(node)
        yield data


def rows(results):
    """What a person is shown of a search: for each found one, column by column."""
    titles = [text(more.purple_notify_searchresults_column_get_title(results, column))
              for column in range(more.purple_notify_searchresults_get_columns_count(results))]
    found = (more.purple_notify_searchresults_row_get(results, row) for row in range(more.purple_notify_searchresults_get_rows_count(results)))
    return [dict(zip(titles, (text(ctypes.cast(cell, Text).value) for cell in each(row)))) for row in found]


class Agent(bonjour_agent.Agent):
    def __init__(self, folder):
        super().__init__(folder)
        self.folder, self.asked, self.windows = folder, None, 0
        # request_input is the first, request_fields the fourth of PurpleRequestUiOps; notify_message and notify_searchresults of PurpleNotifyUiOps
        more.purple_request_set_ui_ops(table(13, _0=callback(self._asks_input, Pointer, Text, Text, Text, Text, Int, Int, Text, Text, Pointer, Text,
                                                             Pointer, Pointer, Text, Pointer, Pointer),
                                             _3=callback(self._asks_fields, Pointer, Text, Text, Text, Pointer, Text, Pointer, Text, Pointer, Pointer,
                                                         Text, Pointer, Pointer)))
        more.purple_notify_set_ui_ops(table(13, _0=callback(self._notifies, Pointer, Int, Text, Text, Text),
                                            _4=callback(self._finds, Pointer, Pointer, Text, Text, Text, Pointer, Pointer)))
        if not purple.purple_find_prpl(XMPP):
            raise SystemExit("libpurple's XMPP plug-in is not usable")
        self._on(purple.purple_conversations_get_handle(), b"received-chat-msg", lambda account, sender, body, conversation, flags, _:
                 tell(event="chat", room=text(more.purple_conversation_get_name(conversation)), body=plain(text(body)), **{"from": text(sender)}),
                 Pointer, Text, Text, Pointer, Int)
        self._on(more.purple_xfers_get_handle(), b"file-recv-request", lambda transfer, _:
                 tell(event="offer", name=text(more.purple_xfer_get_filename(transfer)), **{"from": text(more.purple_xfer_get_remote_user(transfer))}),
                 Pointer)

    def do_login(self, jid, password, server="127.0.0.1", port=5222, proxy=None, accepted=None):
        """As JID; with TLS if it is offered and a person has `accepted` that certificate (PEM). The session is up at the event signed-on."""
        if accepted:
            with open(os.path.join(self.folder, "certificates", "x509", "tls_peers", server), "w", encoding="utf-8") as file:
                file.write(accepted)
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

    # The search for users, as by the menu of the account -----------------------------------------------------------

    def _asks_input(self, title, primary, secondary, default, multiline, masked, hint, ok, ok_cb, cancel, cancel_cb, account, who, conversation, data):
        self.asked = INPUT, ctypes.CFUNCTYPE(None, Pointer, Text)(ok_cb), data, None
        tell(event="asks", title=text(title), default=text(default))
        return self._window()

    def _asks_fields(self, title, primary, secondary, fields, ok, ok_cb, cancel, cancel_cb, account, who, conversation, data):
        self.asked = FIELDS, ctypes.CFUNCTYPE(None, Pointer, Pointer)(ok_cb), data, fields
        tell(event="asks", title=text(title), instructions=text(secondary), labels=list(self._strings()))
        return self._window()

    def _window(self):
        """A handle for what is open now."""
        self.windows += 1
        return self.windows

    def _strings(self):
        """The lines that can be filled in, by their labels."""
        groups = each(more.purple_request_fields_get_groups(self.asked[3]))
        fields = (field for group in groups for field in each(more.purple_request_field_group_get_fields(group)))
        return {text(more.purple_request_field_get_label(field)): field for field in fields
                if more.purple_request_field_get_type(field) == STRING and more.purple_request_field_is_visible(field)}

    def _notifies(self, kind, title, primary, secondary):
        tell(event="tells", title=text(title), primary=text(primary), secondary=text(secondary))
        return self._window()

    def _finds(self, connection, title, primary, secondary, results, data):
        tell(event="finds", rows=rows(results))
        return self._window()

    def do_search(self):
        """"Search for Users": `asks` for the directory, with the one that the server has, then for words; `finds` tells who was found."""
        action = (Pointer * 5)(None, None, None, more.purple_account_get_connection(self.account), None)  # PurplePluginAction
        jabber.jabber_user_search_begin(ctypes.addressof(action))

    def do_answer(self, value):
        """What was asked last: a line, or {label: line}."""
        (kind, confirm, data, fields), window = self.asked, self.windows
        if kind == INPUT:
            confirm(data, value.encode())
        else:
            lines = self._strings()
            for label, line in value.items():
                more.purple_request_field_string_set_value(lines[label], line.encode())
            confirm(data, fields)
        more.purple_request_close(kind, window)

    def do_inside(self, room):
        return bool(more.purple_find_conversation_with_account(CHAT, room.encode(), self.account))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="purple-", dir=os.environ.get("HOME")) as profile:
        Agent(profile).run()
