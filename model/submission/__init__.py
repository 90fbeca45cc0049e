"""The exported script: how it is made (`script`), and what it does when it is run (`standalone`).

It imports every room but `audit`.
"""
