"""The words that puzzles are made of: common ones, which most tokenizers know whole."""

from __future__ import annotations

NAMES = (
    *("John", "Mary", "Peter", "Anna", "David", "Sarah", "Paul", "Jane", "Mark", "Laura", "James", "Alice"),
    *("Tom", "Lucy", "George", "Emma", "Henry", "Helen", "Robert", "Ruth"),
)
COLOURS = ("red", "blue", "green", "white", "black", "brown", "yellow", "grey")
THINGS = ("box", "car", "house", "book", "hat", "bag", "boat", "door", "table", "cup")
ANIMALS = ("dog", "cat", "horse", "bird", "fish", "cow", "bear", "wolf")
PLACES = ("garden", "village", "forest", "city", "valley", "park")
WORDS = (
    *("river", "stone", "music", "paper", "winter", "bread", "king", "light", "road", "metal", "child", "water"),
    *("church", "field", "glass", "horse", "island", "letter", "money", "night", "ocean", "party", "queen", "school"),
    *("tree", "voice", "window", "world", "army", "bridge"),
)
FILLERS = (  # of exactly FILLER_WORDS words; none names a person, a colour or a thing of the facts
    "The train from the north was late again.",
    "It rained for most of the long afternoon.",
    "A new school will open in the spring.",
    "The river runs slowly through the old town.",
    "Many people came to hear the music play.",
    "The price of bread has gone up since.",
    "Nobody knew when the long meeting would end.",
    "The road to the coast is very long.",
    "In the summer the days are often warm.",
    "The church was built a hundred years ago.",
)
FILLER_WORDS = 8
COMPARATIVES = (  # more, most, least
    ("older", "oldest", "youngest"),
    ("taller", "tallest", "shortest"),
    ("faster", "fastest", "slowest"),
    ("richer", "richest", "poorest"),
    ("stronger", "strongest", "weakest"),
)
OPPOSITES = (  # two words of which exactly one is true of each of the subjects
    ("open", "closed", ("door", "window", "gate", "shop", "box", "road")),
    ("on", "off", ("light", "radio", "engine", "heater", "computer", "lamp")),
    ("dead", "alive", ("king", "fish", "tree", "soldier", "bird", "horse")),
    ("wet", "dry", ("floor", "road", "paper", "coat", "ground", "grass")),
    ("true", "false", ("story", "statement", "report", "answer", "claim", "rumour")),
    ("clean", "dirty", ("shirt", "window", "plate", "room", "kitchen", "car")),
    ("full", "empty", ("glass", "bottle", "box", "bag", "hall", "train")),
    ("right", "wrong", ("answer", "result", "address", "number", "date", "time")),
    ("awake", "asleep", ("child", "guard", "dog", "driver", "cat", "baby")),
    ("present", "absent", ("teacher", "doctor", "student", "judge", "mayor", "singer")),
)
NOUNS = (
    *("key", "book", "dog", "car", "boy", "girl", "teacher", "doctor", "picture", "letter", "house", "tree"),
    *("student", "horse", "bird", "table", "window", "river", "road", "king"),
)
PREPOSITIONS = ("near", "behind", "beside", "under", "above")
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))  # singular, plural
PAIRS = (  # he, she
    *(("man", "woman"), ("boy", "girl"), ("king", "queen"), ("father", "mother"), ("brother", "sister")),
    *(("son", "daughter"), ("uncle", "aunt"), ("husband", "wife"), ("prince", "princess")),
)
REFLEXIVE_VERBS = ("saw", "hurt", "killed", "defended", "taught", "introduced", "blamed", "trusted")
