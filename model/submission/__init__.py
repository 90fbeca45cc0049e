"""The exported script: the code that travels with the weights (`script`), and what it does when it is run (`standalone`).

It imports every room but `audit`.
"""
