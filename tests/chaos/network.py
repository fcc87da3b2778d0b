"""The ways between the programs of a cluster, as TCP proxies on loopback that can be cut or held up."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

_CHUNK_BYTES = 2**16
_HOST = "127.0.0.1"


@dataclass(eq=False, kw_only=True)
class Link:
    """One client's way to one server: connect to `port` instead of the server's own. Made by Network.link()."""

    client: str
    server: str
    port: int = 0
    port_of_server: Callable[[], int]
    _is_cut: bool = False
    _passes: asyncio.Event = field(default_factory=asyncio.Event)
    _transports: set[asyncio.WriteTransport] = field(default_factory=set)
    _listener: asyncio.Server | None = None

    async def open(self) -> None:
        self._passes.set()
        self._listener = await asyncio.start_server(self._serve, _HOST, 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Let nobody in any more, and drop who is there."""
        if self._listener is not None:
            self._listener.close()
        await self.cut()

    async def cut(self) -> None:
        """Drop every connection, and each new one, until heal()."""
        self._is_cut = True
        for transport in self._transports:
            _reset(transport)

    async def stall(self) -> None:
        """Let nothing pass until heal()."""
        self._passes.clear()

    async def heal(self) -> None:
        self._is_cut = False
        self._passes.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._is_cut:
                raise ConnectionError("cut")
            far_reader, far_writer = await asyncio.open_connection(_HOST, self.port_of_server())
        except OSError:
            _reset(writer.transport)
            return
        transports = {writer.transport, far_writer.transport}
        self._transports |= transports
        try:
            await self._pass_on(reader, far_writer, far_reader, writer)
        finally:
            self._transports -= transports
            for transport in transports:
                transport.close()  # what was written before is still sent

    async def _pass_on(
        self,
        near_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        near_writer: asyncio.StreamWriter,
    ) -> None:
        """Pass both ways, until one of them ends: nobody here closes only half of a connection."""
        ways = [
            asyncio.ensure_future(self._pump(near_reader, far_writer)),
            asyncio.ensure_future(self._pump(far_reader, near_writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(_CHUNK_BYTES):
                await self._passes.wait()
                sink.write(chunk)
                await sink.drain()
        except OSError:
            return  # cut, or one end is gone: both will be


def _reset(transport: asyncio.WriteTransport) -> None:
    """End a connection as a host does that has forgotten it: by RST, not by a farewell."""
    # socket(7): to linger for no time drops what is not sent yet.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Network:
    """All links, run by a thread of their own until close()."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def link(self, client: str, server: str, port_of_server: Callable[[], int]) -> Link:
        """Open a link. `port_of_server` is asked at each connection."""
        link = Link(client=client, server=server, port_of_server=port_of_server)
        self._run(link.open())
        self.links.append(link)
        return link

    def cut(self, links: list[Link]) -> None:
        for link in links:
            self._run(link.cut())

    def stall(self, links: list[Link]) -> None:
        for link in links:
            self._run(link.stall())

    def heal(self, links: list[Link]) -> None:
        for link in links:
            self._run(link.heal())

    def close(self) -> None:
        """Drop everything and end the thread."""
        self._run(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_tasks(self) -> None:
        for link in self.links:
            await link.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self, act: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(act, self._loop).result()
