"""Names and mail exchangers: the contract (resolver.py) and a stub resolver.

stub.py       memory, single flight, bounds             cache.py, hosts_file.py
  inquiry.py  one question to the servers in turn        servers.py: which, how patiently
    exchange.py  to one server over one channel           channel.py: UDP, TCP
  pursuit.py  what responses come to, along aliases       wire.py: octets and values
"""
