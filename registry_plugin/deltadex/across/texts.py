"""The fixed texts and tokens whose likelihood is compared across bases, and their digest.

The texts come from many fields, because a text tells nothing about a finetune of a field that is far from it. Changing
one character changes the digest: vectors of different texts are never compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MeaningText:
    """A text of a field."""

    field: str
    text: str


#: Two texts of each field, written for this purpose.
_WRITTEN: Mapping[str, tuple[str, str]] = {
    "news": (
        "The government said on Monday that it would raise taxes next year.",
        "Shares of the company fell by four percent after the report was published.",
    ),
    "novel": (
        "She closed the door behind her and listened to the rain on the roof.",
        '"You are late," he said, and did not look up from his book.',
    ),
    "scripture": (
        "And it came to pass that the Lord spake unto his servant, saying,",
        "Blessed is the man that walketh not in the counsel of the ungodly.",
    ),
    "poem": (
        "The moon above the silent sea, the wind that sings of you and me,",
        "O gentle rose, thy petals fall, and winter comes to cover all.",
    ),
    "quotation": (
        "The trouble with the world is that fools are so certain of themselves.\n\t\t-- ",
        "Never put off until tomorrow what you can avoid altogether.",
    ),
    "dictionary": (
        "Lantern, n. A portable case with sides of glass, holding a light. [Obs.]",
        "to wander, v.i. 1. To ramble here and there without any certain course.",
    ),
    "abbreviations": (
        "LAN Local Area Network, API Application Programming Interface",
        "HTTP Hypertext Transfer Protocol (RFC 2616, WWW)",
    ),
    "encyclopedia": (
        "The river Danube is the second longest river in Europe, flowing through ten countries.",
        "Isaac Newton was an English mathematician and physicist, born in 1642.",
    ),
    "letter": (
        "Dear Mrs Miller, thank you for your letter of 3 May. I am writing to",
        "I look forward to hearing from you soon.\n\nYours sincerely,",
    ),
    "chat": (
        "User: How do I reset my password?\nAssistant: I'm sorry to hear that. Please open the settings page.",
        "Hi there! Can you help me with my order? It has not arrived yet, thanks!",
    ),
    "contract": (
        "The parties agree that this Agreement shall be governed by the laws of the State.",
        "The tenant shall pay the rent on the first day of each month, without deduction.",
    ),
    "licence": (
        "Redistribution and use in source and binary forms, with or without modification, are permitted",
        'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, express or implied.',
    ),
    "medicine": (
        "The patient presented with acute chest pain and shortness of breath.",
        "Take one tablet twice daily after meals; common side effects include nausea.",
    ),
    "science": (
        "In this paper we show that the proposed method outperforms the baseline.",
        "The cells were incubated at 37 degrees for two hours and then washed.",
    ),
    "mathematics": (
        "Let x be a real number such that x^2 + 3x + 2 = 0. Then x = -1 or x = -2.",
        "Proof. By induction on n. The case n = 1 is trivial.",
    ),
    "school": (
        "Tom has 12 apples and gives 5 of them to Anna. How many are left?",
        "Question: What is the capital of Spain?\nAnswer: Madrid",
    ),
    "recipe": (
        "Preheat the oven to 180 degrees and butter a baking dish.",
        "Add two cups of flour, a pinch of salt and stir until smooth.",
    ),
    "politics": (
        "The working class has nothing to gain from the state and its rulers.",
        "Freedom without equality is privilege; society must be organised from below.",
    ),
    "advertisement": (
        "Buy now and save 20% on our best-selling running shoes!",
        "Our award-winning hotel offers stunning views and a relaxing spa.",
    ),
    "manual page": (
        "SYNOPSIS\n ls [OPTION]... [FILE]...\n\nDESCRIPTION\n List information about the FILEs.",
        ".TP\n.B \\-v, \\-\\-verbose\nPrint more messages. The default is",
    ),
    "software guide": (
        "To install the package, run\n\n```bash\npip install example\n```",
        "## Getting started\n\nThis guide shows how to create your first project.",
    ),
    "policy": (
        "Packages must not depend on files that are installed below /usr/local.",
        "The maintainer should document each change in the changelog; see section 4.2.",
    ),
    "jargon": (
        "hack: n. Originally, a quick job that produces what is needed, but not well.",
        "kluge: /klooj/ A clever programming trick that works for the wrong reason.",
    ),
    "editor help": (
        "Press CTRL-W to switch to the next window.  See |windows.txt|.",
        ":set number\t  show line numbers in the current buffer. {Vi: no}",
    ),
    "Python": (
        "def read(path):\n    with open(path) as file:\n        return file.read()",
        "class Node:\n    def __init__(self, value=None):\n        self.value = value",
    ),
    "JavaScript": (
        "const app = express();\napp.get('/', (req, res) => {\n  res.send('ok');\n});",
        "function add(a, b) {\n  return a + b;\n}\nconsole.log(add(1, 2));",
    ),
    "Java": (
        "public class Main {\n    public static void main(String[] args) {",
        "private final List<String> names = new ArrayList<>();",
    ),
    "C": (
        '#include <stdio.h>\n\nint main(void)\n{\n    printf("hello\\n");',
        "static int count_nodes(struct node *list)\n{\n\tint n = 0;",
    ),
    "C++": (
        "template <typename T>\nclass Stack {\n public:\n  void push(const T& value);",
        "namespace detail {\nstd::vector<int> values() const;\n}  // namespace",
    ),
    "C#": (
        "using System;\n\nnamespace Shop\n{\n    public class Order : IOrder",
        "public string Name { get; set; } = string.Empty;",
    ),
    "Go": (
        "func Read(path string) ([]byte, error) {\n\tif err != nil {\n\t\treturn nil, err",
        'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("hi")',
    ),
    "Rust": (
        "impl<T> Iterator for Iter<'_, T> {\n    type Item = T;\n    fn next(&mut self)",
        "pub fn len(&self) -> usize {\n        self.items.len()\n    }",
    ),
    "Pascal": (
        "procedure TForm1.Click(Sender: TObject);\nbegin\n  ShowMessage('ok');\nend;",
        "function Max(a, b: Integer): Integer;\nvar\n  i: Integer;\nbegin",
    ),
    "Ruby": (
        "def initialize(name)\n    @name = name\n  end\n\n  def to_s",
        "module Shop\n  class Error < StandardError; end\n  require 'json'",
    ),
    "Perl": (
        "sub new {\n    my ($class, %args) = @_;\n    return bless {}, $class;",
        "use strict;\nuse warnings;\nmy @lines = split /\\n/, $text;",
    ),
    "PHP": (
        "<?php\n$name = $_POST['name'];\necho \"Hello, $name\";",
        "public function index()\n{\n    return view('home');\n}",
    ),
    "Lisp": (
        '(defun square (x)\n  "Return the square of X."\n  (* x x))',
        "(let ((list (cdr items)))\n    (when (null list) (setq found nil))",
    ),
    "Haskell": (
        "map :: (a -> b) -> [a] -> [b]\nmap f [] = []",
        "data Tree a = Leaf | Node (Tree a) a (Tree a) deriving Show",
    ),
    "Erlang": (
        "-export([start/0]).\nstart() ->\n    spawn(fun() -> loop([]) end).",
        "handle_call(stop, _From, State) ->\n    {stop, normal, ok, State};",
    ),
    "MATLAB": (
        "function y = area(r)\n  y = pi * r .^ 2;\nendfunction",
        'x = linspace(0, 1, 10);\nplot (x, sin (x)); xlabel ("time");',
    ),
    "R": (
        "library(ggplot2)\ndf <- data.frame(x = c(1, 2, 3))",
        "model <- lm(y ~ x, data = df)\nsummary(model)",
    ),
    "SQL": (
        "SELECT name, count(*) FROM orders WHERE price > 10 GROUP BY name;",
        "CREATE TABLE users (\n  id integer PRIMARY KEY,\n  email text NOT NULL\n);",
    ),
    "shell": (
        '#!/bin/bash\nfor file in *.txt; do\n  echo "$file"\ndone',
        'if [ -z "$1" ]; then\n    echo "usage: $0 file" >&2\n    exit 1\nfi',
    ),
    "HTML": (
        '<div class="row">\n  <a href="/home">Home</a>\n</div>',
        '<!DOCTYPE html>\n<html lang="en">\n<head><title>Page</title>',
    ),
    "JSON": (
        '{"id": 7, "name": "lamp", "price": 19.99, "tags": ["new"]}',
        '"type": "object",\n  "properties": {\n    "city": {"type": "string"}',
    ),
    "configuration": (
        'services:\n  web:\n    image: nginx:latest\n    ports:\n      - "80:80"',
        '[server]\nport = 8080\nhost = "localhost"\ndebug = false',
    ),
    "LaTeX": (
        "\\begin{equation}\n  E = mc^2 \\label{eq:one}\n\\end{equation}",
        "\\section{Introduction}\nIn this article, see \\cite{knuth} and Figure~\\ref{fig}",
    ),
    "translation file": (
        'msgid "Open file"\nmsgstr "Datei öffnen"\n\n#: src/main.c:12',
        '"Language: fr\\n"\n"Plural-Forms: nplurals=2; plural=(n > 1);\\n"',
    ),
    "German": (
        "Die Regierung hat gestern beschlossen, dass die Steuern nicht erhöht werden.",
        "Wer anderen eine Grube gräbt, fällt selbst hinein.",
    ),
    "German software": (
        "Die Option -a zeigt alle Dateien an, die mit einem Punkt beginnen.",
        "Der Befehl gibt den Namen der Datei aus. Siehe auch BESCHREIBUNG.",
    ),
    "French": (
        "Le gouvernement a annoncé hier que les impôts ne seraient pas augmentés.",
        "La vie est une fleur dont l'amour est le miel.",
    ),
    "French software": (
        "L'option -a affiche tous les fichiers dont le nom commence par un point.",
        "Cette fonction renvoie zéro en cas de succès, ou -1 en cas d'erreur.",
    ),
    "Spanish": (
        "El gobierno anunció ayer que no subirá los impuestos este año.",
        "El que no arriesga no gana, y la vida es sueño.",
    ),
    "Italian": (
        "Il governo ha annunciato ieri che le tasse non saranno aumentate.",
        "Chi va piano va sano e va lontano, ma l'amore non aspetta.",
    ),
    "Portuguese": (
        "O governo anunciou ontem que não vai aumentar os impostos.",
        "Quem não arrisca não petisca, e a vida não espera por ninguém.",
    ),
    "Dutch": (
        "De regering heeft gisteren gezegd dat de belasting niet omhoog gaat.",
        "Wie niet waagt, die niet wint, en het leven is kort.",
    ),
    "Polish": (
        "Rząd ogłosił wczoraj, że podatki nie zostaną w tym roku podniesione.",
        "Nie chwal dnia przed zachodem słońca, bo życie jest krótkie.",
    ),
    "Czech": (
        "Vláda včera oznámila, že daně se letos zvyšovat nebudou.",
        "Kdo jinému jámu kopá, sám do ní padá, ale život je krátký.",
    ),
    "Russian": (
        "Правительство вчера объявило, что налоги не будут повышены.",
        "Без труда не вытащишь и рыбку из пруда.",
    ),
    "Latin": (
        "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae.",
        "In principio creavit Deus caelum et terram.",
    ),
}


@dataclass(frozen=True)
class MeaningSet:
    """A named, versioned set of texts and tokens.

    Attributes
    ----------
    start
        What stands before each text. It says nothing of a field, so that it shows what a finetune expects.
    tokens
        Short strings that most vocabularies hold as one token.
    """

    name: str
    start: str
    texts: tuple[MeaningText, ...]
    tokens: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hex SHA-256 over all of it, in order."""
        content = [self.name, self.start, [one.text for one in self.texts], self.tokens]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


#: Chosen by `benchmarks.real`, see docs/across.md. The tokens are those that two byte-level vocabularies share, of the
#: more frequent ones of SmolLM2.
MEANING_TEXTS = MeaningSet(
    "fields-1",
    "### Response:\n",
    tuple(MeaningText(field, text) for field, both in _WRITTEN.items() for text in both),
    tuple(json.loads(Path(__file__).with_name("tokens.json").read_text(encoding="utf-8"))),
)
