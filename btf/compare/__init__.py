"""How two types differ: which part of which type, said in words; and why types stay in modules."""
