"""A real Bonjour (XEP-0174) client, libpurple 2 with its own protocol plug-in, driven by JSON lines. See bonjour.py.

libpurple is a C library that lives in GLib's main loop; both are called by ctypes. Everything it tells its user interface
goes out as an event: a buddy that appears, changes or goes, a message, a notice that a person would read.
"""

import collections
import ctypes
import hashlib
import html
import json
import os
import re
import sys
import tempfile
import time

UI, BONJOUR = b"crosstalk-e2e", b"prpl-bonjour"
Pointer, Int, Text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
IM, BUDDY = 1, 2  # PurpleConversationType, PurpleBlistNodeType
READ, WRITE = 1, 2  # PurpleInputCondition
G_IN, G_OUT, G_ERR, G_HUP = 1, 4, 8, 16  # GIOCondition
SHOWN_TO_THE_USER = 0x0004 | 0x0200  # PurpleMessageFlags: system, error

# result, arguments; a function that is missing here cannot be called by mistake with the wrong types.
GLIB = {
    "g_main_loop_new": (Pointer, Pointer, Int), "g_main_loop_run": (None, Pointer), "g_main_loop_quit": (None, Pointer),
    "g_unix_fd_add": (ctypes.c_uint, Int, Int, Pointer, Pointer), "g_source_remove": (Int, ctypes.c_uint),
    "g_list_append": (Pointer, Pointer, Pointer), "g_list_free": (None, Pointer), "g_malloc": (Pointer, ctypes.c_size_t),
}
PURPLE = {
    "purple_util_set_user_dir": (None, Text), "purple_debug_set_enabled": (None, Int), "purple_eventloop_set_ui_ops": (None, Pointer),
    "purple_core_init": (Int, Text), "purple_core_quit": (None,), "purple_blist_new": (Pointer,), "purple_set_blist": (None, Pointer),
    "purple_blist_load": (None,), "purple_blist_set_ui_ops": (None, Pointer), "purple_blist_node_get_type": (Int, Pointer),
    "purple_prefs_set_bool": (None, Text, Int), "purple_find_prpl": (Pointer, Text),
    "purple_account_new": (Pointer, Text, Text), "purple_accounts_add": (None, Pointer), "purple_account_get_username": (Text, Pointer),
    "purple_account_set_string": (None, Pointer, Text, Text), "purple_account_set_int": (None, Pointer, Text, Int),
    "purple_account_set_enabled": (None, Pointer, Text, Int), "purple_account_set_status_list": (None, Pointer, Text, Int, Pointer),
    "purple_buddy_get_name": (Text, Pointer), "purple_buddy_get_alias": (Text, Pointer), "purple_buddy_get_presence": (Pointer, Pointer),
    "purple_buddy_get_icon": (Pointer, Pointer), "purple_buddy_icon_get_data": (Pointer, Pointer, Pointer),
    "purple_presence_is_online": (Int, Pointer), "purple_presence_get_active_status": (Pointer, Pointer),
    "purple_status_get_id": (Text, Pointer), "purple_status_get_attr_string": (Text, Pointer, Text),
    "purple_buddy_icons_set_account_icon": (Pointer, Pointer, Pointer, ctypes.c_size_t),
    "purple_conversation_new": (Pointer, Int, Pointer, Text), "purple_conversation_get_im_data": (Pointer, Pointer),
    "purple_conv_im_send": (None, Pointer, Text), "purple_signal_connect": (ctypes.c_ulong, Pointer, Text, Pointer, Pointer, Pointer),
    "purple_connections_get_handle": (Pointer,), "purple_conversations_get_handle": (Pointer,),
}


class Library:
    """The functions of a C library, with their types."""

    def __init__(self, name, functions):
        self.dll = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        for function, (result, *arguments) in functions.items():
            call = getattr(self.dll, function)
            call.restype, call.argtypes = result, arguments
            setattr(self, function, call)

    def address(self, function):
        return ctypes.cast(getattr(self.dll, function), Pointer).value


glib = Library("libglib-2.0.so.0", GLIB)
purple = Library("libpurple.so.0", PURPLE)
kept = []  # what C points to and Python must not free
HANDLE = Int()  # any address of ours: who listens to signals


def callback(function, result, *arguments):
    """A C function pointer that stays valid."""
    made = ctypes.CFUNCTYPE(result, *arguments)(function)
    kept.append(made)
    return ctypes.cast(made, Pointer)


def table(size, **entries):
    """A struct of `size` function pointers, those of `entries` (by position `_N`) set."""
    made = (Pointer * size)()
    for name, value in entries.items():
        made[int(name[1:])] = value
    kept.append(made)
    return ctypes.cast(made, Pointer)


told = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # libpurple's own log goes to stdout; it belongs with the other noise


def tell(**what):
    print(json.dumps({"at": time.monotonic(), **what}), file=told, flush=True)


def text(value):
    return None if value is None else value.decode("utf-8", "replace")


def plain(markup):
    """What a person reads of a message that libpurple shows as HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br ?/?>", "\n", markup, flags=re.I)))


class Descriptors:
    """Watches file descriptors for libpurple in GLib's loop: PurpleEventLoopUiOps.input_add and input_remove."""

    def __init__(self):
        self.watched, self.count = {}, 0
        self.fired = callback(self._fired, Int, Int, Int, Pointer)

    def add(self, descriptor, condition, function, data):
        wanted = (G_IN | G_HUP | G_ERR if condition & READ else 0) | (G_OUT | G_ERR if condition & WRITE else 0)
        self.count += 1
        key = self.count
        source = glib.g_unix_fd_add(descriptor, wanted, self.fired, key)
        self.watched[key] = (source, function, data)
        return source

    def _fired(self, descriptor, got, key):
        if key not in self.watched:
            return 0
        _, function, data = self.watched[key]
        function(data, descriptor, (READ if got & (G_IN | G_HUP | G_ERR) else 0) | (WRITE if got & (G_OUT | G_ERR) else 0))
        return 1

    def remove(self, source):
        for key in [key for key, entry in self.watched.items() if entry[0] == source]:
            del self.watched[key]
        return glib.g_source_remove(source)


class Agent:
    def __init__(self, folder):
        self.account, self.waiting, self.unread = None, collections.deque(), b""
        self.shown, self.descriptors = {}, Descriptors()
        purple.purple_util_set_user_dir(folder.encode())
        purple.purple_debug_set_enabled(1 if os.environ.get("CROSSTALK_TRACE") else 0)
        handler = ctypes.CFUNCTYPE(None, Pointer, Int, Int)
        add = callback(lambda fd, condition, function, data: self.descriptors.add(fd, condition, handler(function), data),
                       ctypes.c_uint, Int, Int, Pointer, Pointer)
        remove = callback(self.descriptors.remove, Int, ctypes.c_uint)
        # timeout_add, timeout_remove, input_add, input_remove, input_get_error, timeout_add_seconds, 3 reserved
        purple.purple_eventloop_set_ui_ops(table(9, _0=glib.address("g_timeout_add"), _1=glib.address("g_source_remove"), _2=add, _3=remove,
                                                 _5=glib.address("g_timeout_add_seconds")))
        if not purple.purple_core_init(UI) or not purple.purple_find_prpl(BONJOUR):
            sys.exit("libpurple, or its Bonjour plug-in, is not usable")
        purple.purple_set_blist(purple.purple_blist_new())
        purple.purple_blist_load()
        for preference in (b"/purple/logging/log_ims", b"/purple/logging/log_system"):
            purple.purple_prefs_set_bool(preference, 0)
        # PurpleBlistUiOps: update is the fourth, remove the fifth of 14
        purple.purple_blist_set_ui_ops(table(14, _3=callback(self._changed, None, Pointer, Pointer), _4=callback(self._removed, None, Pointer, Pointer)))
        talk, connections = purple.purple_conversations_get_handle(), purple.purple_connections_get_handle()
        self._on(talk, b"received-im-msg", lambda account, sender, body, conversation, flags, _:
                 tell(event="message", body=plain(text(body)), html=text(body), **{"from": text(sender)}), Pointer, Text, Text, Pointer, Int)
        self._on(talk, b"wrote-im-msg", lambda account, who, body, conversation, flags, _: self._wrote(text(who), text(body), flags),
                 Pointer, Text, Text, Pointer, Int)
        self._on(connections, b"signed-on", lambda connection, _: self._signed_on(), Pointer)
        self._on(connections, b"connection-error", lambda connection, kind, why, _: tell(event="connection-error", why=text(why)), Pointer, Int, Text)

    def _on(self, instance, signal, function, *arguments):
        purple.purple_signal_connect(instance, signal, ctypes.addressof(HANDLE),
                                     callback(function, None, *arguments, Pointer), None)

    # What libpurple shows ---------------------------------------------------------------------------------------

    def _changed(self, _, node):
        if purple.purple_blist_node_get_type(node) != BUDDY:
            return
        presence = purple.purple_buddy_get_presence(node)
        status = purple.purple_presence_get_active_status(presence)
        name, online = text(purple.purple_buddy_get_name(node)), bool(purple.purple_presence_is_online(presence))
        now = {"name": name, "online": online, "alias": text(purple.purple_buddy_get_alias(node)), "icon": icon(node),
               "status": text(purple.purple_status_get_id(status)), "message": text(purple.purple_status_get_attr_string(status, b"message"))}
        was = self.shown.get(name)
        if now != was and (online or was):
            self.shown[name] = now
            tell(event="buddy", **now)

    def _removed(self, _, node):
        if purple.purple_blist_node_get_type(node) == BUDDY:
            name = text(purple.purple_buddy_get_name(node))
            if self.shown.pop(name, None):
                tell(event="buddy", name=name, online=False, alias=None, icon=None, status="offline", message=None)

    def _wrote(self, who, body, flags):
        if flags & SHOWN_TO_THE_USER:
            tell(event="notice", **{"with": who, "text": body})

    def _signed_on(self):
        tell(event="signed-on", name=text(purple.purple_account_get_username(self.account)))

    # Commands ---------------------------------------------------------------------------------------------------

    def do_login(self, name, port=5298, status="available", message=None, **options):
        """Options: first, last, email, jid, AIM. The session is up at the event signed-on."""
        self.account = purple.purple_account_new(name.encode(), BONJOUR)
        for key, value in options.items():
            purple.purple_account_set_string(self.account, key.encode(), value.encode())
        purple.purple_account_set_int(self.account, b"port", port)
        purple.purple_accounts_add(self.account)
        self.do_status(status, message)
        self.do_enable()

    def do_enable(self, on=True):
        """Log in, or out with a goodbye."""
        purple.purple_account_set_enabled(self.account, UI, 1 if on else 0)
        if not on:
            self.shown.clear()

    def do_status(self, status, message=None):
        """`available` or `away`, with a text."""
        words = [ctypes.create_string_buffer(word.encode()) for word in (("message", message) if message is not None else ())]
        attributes = None
        for word in words:
            attributes = glib.g_list_append(attributes, ctypes.addressof(word))
        purple.purple_account_set_status_list(self.account, status.encode(), 1, attributes)
        glib.g_list_free(attributes)

    def do_icon(self, path):
        with open(path, "rb") as file:
            data = file.read()
        taken_over = glib.g_malloc(len(data))
        ctypes.memmove(taken_over, data, len(data))
        purple.purple_buddy_icons_set_account_icon(self.account, taken_over, len(data))

    def do_send(self, to, body):
        """Plain text, as the chat windows send what was typed."""
        conversation = purple.purple_conversation_new(IM, self.account, to.encode())
        purple.purple_conv_im_send(purple.purple_conversation_get_im_data(conversation), html.escape(body, quote=False).replace("\n", "<br>").encode())
        tell(event="sent", to=to, body=body)

    def do_buddies(self):
        return self.shown

    # The loop ---------------------------------------------------------------------------------------------------

    def read(self):
        data = os.read(0, 1 << 16)
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            call = json.loads(line)
            number, name = call.pop("call"), call.pop("do")
            try:
                tell(answer=number, ok=True, value=getattr(self, "do_" + name)(**call))
            except Exception as error:  # whatever it is, the test must see it
                tell(answer=number, ok=False, value=f"{type(error).__name__}: {error}")
        if not data:
            glib.g_main_loop_quit(self.loop)

    def run(self):
        self.loop = glib.g_main_loop_new(None, 0)
        self.descriptors.add(0, READ, lambda data, descriptor, condition: self.read(), None)
        tell(event="ready")
        glib.g_main_loop_run(self.loop)
        purple.purple_core_quit()


def icon(buddy):
    """The SHA-1 of a buddy's picture, or None."""
    image, length = purple.purple_buddy_get_icon(buddy), ctypes.c_size_t()
    data = purple.purple_buddy_icon_get_data(image, ctypes.addressof(length)) if image else None
    return hashlib.sha1(ctypes.string_at(data, length.value)).hexdigest() if data else None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="purple-", dir=os.environ.get("HOME")) as profile:
        Agent(profile).run()
