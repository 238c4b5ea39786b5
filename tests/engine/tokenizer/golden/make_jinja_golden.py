"""Makes jinja_golden.json: what Jinja makes of small templates, for jinja_test.

  python make_jinja_golden.py     (jinja2 3.1)

The environment is that of transformers' chat templates. A case whose template Jinja refuses, or that fails, has no text.
"""
import datetime
import json
import os

import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))

VARIABLES = {
    "a": [3, 1, 2], "s": "Hello W\u00f6rld ", "d": {"k": 1, "b": "x", "n": None}, "t": True, "n": None, "f": 1.5, "e": [], "u": "  tab\t",
    "ms": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "b", "tool_calls": [1]}],
}

EXPRESSIONS = r"""
a|sort|join(',')
a|sort(reverse=true)
s|upper ~ s|lower
s.strip()|length
s[1:4] ~ s[::-1] ~ s[-3:]
a[::-1]
a[1:][0]
a[-1] + 2**3 - 7//2 % 3
-7 // 2
-7 % 3
7 / 2
1e3
0.1+0.2
10.0**20
d
d.get('zz','q')
d.zz is defined
d.zz.q is defined
'k' in d and 'z' not in d
ms|selectattr('role','equalto','user')|map(attribute='content')|join
ms|selectattr('tool_calls','defined')|list|length
ms|rejectattr('role','==','user')|list
ms|map(attribute='zz', default='-')|list
ms[0].content if ms else 'none'
[1,'a"b',"it's",none,true,1.0]
{'a':[1,{'b':2}]}|tojson
{'a':[1,{'b':2}]}|tojson(indent=2)
[]|tojson(indent=2)
'<é"\n>'|tojson
s|tojson
n is none and t is true and f is float and a is iterable and s is string and d is mapping
a is sequence
1 < 2 < 3
1 < 2 > 5
not not t
not t or t and not n
'a' ~ 1 ~ none ~ true ~ 1.5
'x' * 3 + 'y'
[1] * 2 + [3]
s.split()
'a,b,,c'.split(',')
'a,b,,c'.split(',',1)
'a,b,,c'.rsplit(',',1)
' a  b c '.split()
' a  b c '.split(None,1)
' a  b c '.rsplit(None,1)
'a\nb\r\nc'.splitlines()
'abc'.startswith(('x','a'))
'abc'.replace('b','')
'abc'.replace('','-')
'abcabc'.replace('b','X',1)
'abc'|replace('b','XX')
'abc'.find('c') ~ 'abc'.rfind('z') ~ 'wörld'.find('r')
'hello world'.title() ~ 'hELLO'|capitalize ~ "it's a x-y".title()
'xxabxx'.strip('x') ~ 'xxab'.lstrip('x') ~ 'abxx'.rstrip('x')
'abc'|first ~ 'abc'|last ~ a|first
e|first is defined
zz|default('d') ~ ''|default('q',true) ~ ''|default('q')
zz
zz.y
zz + 'a'
zz ~ 'a'
zz|length
zz|upper
zz == none
none == none
1 == 1.0 and true == 1
'3'|int + 4 ~ '3.7'|float
'3.7'|int
'x'|int
'x'|int(5)
3.7|int
3.567|round(2)
2.5|round
3|round ~ true|round ~ (-15)|round(-1) ~ 25|round(-1) ~ 1350|round(-2) ~ 3|round(-30)
3|round(1, 'ceil') ~ 2.675|round(2) ~ 1.005|round(2) ~ 1350.0|round(-2) ~ 1e300|round(2) ~ 1.5|round(400)
2.5|round(0, 'nearest')
"it's a dog. foo-bar (baz [q {x <y a.b e--f É"|title
"abc"[0] ~ "abc"[-1] ~ "abc"[5] ~ "abc"|first ~ "abc"|last ~ ""|first ~ "abc"|length
3.5|round|int
a|sum ~ a|min ~ a|max
ms|map(attribute='role')|unique|list
['a','A','b']|unique|list
'a b'|indent
'a\nb\n\nc'|indent(2)
'a\nb\n\nc'|indent(2, true)
range(3)|list ~ range(1,4)|list ~ range(5,0,-2)|list
namespace(x=1).x
dict(a=1,b=2)
dict(a=1).b is undefined
a.0
'abc'[5]
'abc'[1]
a[10] is defined
none.foo is defined
d['k'] ~ d["b"]
{'a':1}.a ~ {1:2}[1] ~ {'a':1,'a':2}
{1:2}|tojson
'a' 'b'
"\u00e9\x41\n\q"
t is boolean and not 1 is boolean
3 is odd ~ 4 is even ~ 9 is divisibleby 3
3 is divisibleby(3)
'a' is in ['a','b']
'a' is in('abc')
s is not none
s is not defined or s is eq 'x'
'abc' is lower
true and 'x' or 'y'
0 or none
[] and 1
1 if false
(1 if false) is undefined
'x' if n is none else 'y' if t else 'z'
loop is defined
a|list|reverse|list
'abc'|reverse
a|map('string')|join('-')
a|select('odd')|list
a|select|list
a|reject('gt', 1)|list
'abc'|length > 2
'a'|upper + 'b'
-a[0]|abs
-1|abs
- 1 ** 2
2 ** 3 ** 2
'a' in 'abc' == true
1 + 2 ~ 3 + 4
'a' ~ 1 + 2
d.keys()|list ~ d.values()|list
d.items()|map('first')|list
'{} {1} {}'.format(1)
'{0}-{x}'.format('q', x=3)
'a{{b}}'.format()
('a','b')[1]
[1,2,3][1:]|length
"a" < "b"
'a' < 1
[1,2] < [1,3]
'abc'.count('b') ~ 'aaa'.count('aa')
'1' .isdigit()
' '.isspace() ~ ''.isspace()
'Abc'.isalpha() ~ 'a1'.isalnum() ~ 'ABC'.isupper() ~ 'abC'.islower()
'abc'.removeprefix('a').removesuffix('c')
s|trim ~ '|' ~ u|trim ~ '|' ~ 'xax'|trim('x')
'\u00a0 a \u3000'.strip() ~ '|'
', '.join(['a','b'])
'-'.join('abc')
1/0
5 % 0
raise_exception('boo')
strftime_now('%d %b %Y')
'a'.foo()
foo()
a()
'a'|nofilter
a is notest
1_000 + 1
1.5e3
"a
{'a'
a[
(1
a b
1 is integer ~ true is integer ~ 1.0 is number
a|length is gt 2
a is defined and a|length
d.k is eq 1
d|length ~ d|list
zz|items|list
ms|map(attribute='role')|map('upper')|list
ms|length - 1
(ms|length) // 2
"x"|string ~ 5|string
f|string ~ 1e20 ~ 1.0e-5 ~ 123456789012345678
1e16
1e15
none|string
true|string|lower
[none,true,false]|tojson
1.0|tojson
"\\n" ~ '\'' ~ "\""
''|trim|length
a|join
a|join(', ', attribute='x')
ms|join(', ', attribute='role')
[[1,2],[3,4]]|map('sum')|list
[[1,2],[3,4]]|map(attribute=1)|list
['b','A','c']|sort
['b','A','c']|sort(case_sensitive=true)
ms|sort(attribute='role')|map(attribute='role')|list
'a'|safe
'tab\there'
"quote'd"
['tab\t','nl\n','\\']
['é']
caller is defined
(1, 'a', (2,), ()) ~ '' ~ (1,)
(1, 2) == [1, 2] or (1, 2) != (1, 2) or (1, 2) < (1, 3)
(1,) + (2,) ~ (1, 2) * 2 ~ (1, 2, 3)[1:]
(1,) + [2]
(1, 2) < [1, 3]
(3, 1)|sort ~ (3, 1)|list ~ (3, 1)|tojson ~ (3, 1)|first ~ 3 in (3, 1)
d|dictsort ~ d|items|list ~ d.items()|list
1, 2
'%s has %d of %5.1f%%|%-4s|%04d|%r' % ('x', 3, 1.25, 'é', 7, 'q')
'%s' % 'a' ~ '%s' % 5 ~ '%d' % 2.9 ~ '%s' % [1, 'b'] ~ '%x %X %o %+d %e %g' % (255, 255, 8, 3, 1.5, 0.0001)
'%.2s|%6s|%5d' % ('añb', 'ñ', 42)
'%s %s' % ('a',)
'%s' % ('a', 'b')
'%d' % 'a'
'%q' % 1
'%' % 1
'%s and %s'|format('a', 2)
'a'|format('b')
range(*[1, 4])|list ~ dict(**{'a': 1, 'b': 2}) ~ '{} {x}'.format(*['q'], **{'x': 3})
range(*5)
dict(**[1])
"""

TEMPLATES = [
    r'''{% for x in a %}{{ loop.index }}{{ x }}{% if not loop.last %},{% endif %}{% else %}none{% endfor %}''',
    r'''{% for x in e %}{{ x }}{% else %}none{% endfor %}''',
    r'''{% for k, v in d.items() %}{{k}}={{v}};{% endfor %}''',
    r'''{% for x in a if x > 1 %}{{ x }}{{ loop.length }}{{ loop.revindex }}{{loop.first}}{% endfor %}''',
    r'''{% set ns = namespace(n=0) %}{% for x in a %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}''',
    r'''{% set x = 1 %}{% for i in a %}{% set x = x + i %}{{x}} {% endfor %}{{ x }}''',
    r'''{% set x %}hello {{ s }}{% endset %}[{{ x }}]''',
    r'''[{% filter trim|upper %}  {{ s }} {% endfilter %}]''', r'''{% filter replace('l', 'L') -%} {{ s }}{% endfilter %}''',
    r'''{% set x | trim | length %}  ab {% endset %}{{ x + 1 }}''', r'''{% for i in a %}{% filter upper %}{{ i }}x{% endfilter %}{% endfor %}''',
    r'''{% filter trim %}{% set q = 1 %}{{ q }}{% endfilter %}{{ q }}''', "{% filter nonsense %}x{% endfilter %}", "{% filter %}x{% endfilter %}",
    "{% filter trim %}x", r'''{% filter upper %}a{% filter lower %}B{% endfilter %}c{% endfilter %}''', "{% set x | nonsense %}x{% endset %}",
    r'''{% for i in a %}{% filter upper %}{% for j in a %}{% if j == 1 %}{% break %}{% endif %}j{{ j }}{% endfor %}{% endfilter %}{% endfor %}''',
    r'''{% set a, b = 1, 2 %}{{ a }}{{ b }}''',
    r'''{% macro m(x, y=2, z='q') %}({{ x }}{{ y }}{{ z }}){% endmacro %}{{ m(1) }}{{ m(1, z=3) }}{{ m(1,5) }}{{ m() }}''',
    r'''{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(5) }}''',
    r'''{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(500) }}''',
    r'''{% for x in a %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}''',
    "  {% if t %}  \n  yes\n  {% endif %}  \nend\n",
    "  {%- if t -%}  \n  yes\n  {%- endif -%}  \nend\n\n",
    "{% if t %}\n  {{ 'x' }}\n{% endif %}\n",
    "a {#- c -#} b\n{# x #}\nc",
    "  {%+ if t %}x{% endif +%}\ny",
    "{% raw %}{{ a }}{% if %}{% endraw %}z",
    "{%- raw -%} {{ a }} {%- endraw -%} z",
    "{% if a %}1{% elif b %}2{% elif c %}3{% else %}4{% endif %}{% if zz %}1{% elif n %}2{% elif t %}3{% else %}4{% endif %}",
    "{% for x in a %}{% for y in a %}{{ loop.index0 }}{{ loop.depth }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in a %}{{ loop.cycle('a','b') }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}",
    "{{ loop }}", "{% for c in 'añb' %}[{{ c }}]{% endfor %}", "{% for x in d %}{{x}}{% endfor %}",
    "{% for x in n %}{{x}}{% endfor %}", "{% for x in zz %}{{x}}{% else %}E{% endfor %}",
    "{% generation %}gen{% endgeneration %}", "{% include 'x' %}", "{% endif %}", "{% if t %}", "{% for x in a %}", "{{ a", "{% set x = %}", "{{ }}", "{% %}", "{# unclosed",
    "{% set d2 = dict(d, z=1) %}{{ d2.z }}{{ d2.k }}",
    "{% if x is not defined %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% for m in ms %}{% set c = m.content %}{% if loop.first %}{% set c = 'Z' + c %}{% endif %}{{ c }}{% endfor %}",
    "line1\r\nline2\r\n", "{{ 'a' }}\n\n", "\n\n{{ 'a' }}", "{{- ' a ' -}}\n b", "x{{ 'a' -}}   \n  {{- 'b' }}y",
    "{% for x in 1, 2 %}{{ x }}{% endfor %}{% for x in 1, %}{{ x }}{% endfor %}{% for x in 1, 2, 3 if x > 1 %}{{ x }}{% endfor %}",
    "{% for a, b in (1, 2), (3, 4) %}{{ a }}-{{ b }};{% endfor %}{% set x = 1, 2 %}{{ x }}{% set y = 1, %}{{ y }}",
    "{% for p in d.items() %}{{ p }}{% endfor %}", "{% macro m(a, b=2, c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[7, 8]) }}{{ m(1, **{'c': 9}) }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set q = {} %}{% set q.a = 1 %}", "{{ {'a': {'b': [1,2,{'c': 3}]}}.a.b[2].c }}",
    "{% set x = namespace(v=[]) %}{% for i in range(3) %}{% set x.v = x.v + [i] %}{% endfor %}{{ x.v }}",
    "{%- set x = 'y' -%}\n{{ x }}", "{% for i in range(3) -%}\n {{ i }}\n{%- endfor %}",
    "\t{% if t %}\n\tx\n\t{% endif %}\n", "a\n   {# c #}   \nb", "{% if true %}a{%endif%}\n\nb",
    "{% macro a(x) -%} {{ x }} {%- endmacro %}{{ a('q') }}{{ a(x='w') }}", "{{ m }}{% macro m() %}{% endmacro %}",
    "{% set l = ['a'] %}{% macro p() %}{{ l[0] }}{{ g }}{% endmacro %}{% set g = 7 %}{{ p() }}",
    "{% for x in a|sort %}{{ x }}{% endfor %}", "{% for x in [1,2] + [3] %}{{ x }}{% endfor %}", "{% for x in a if x is odd %}{{ x }}{% else %}q{% endfor %}",
    "{% for (k, v) in d.items() %}{{ k }}{% endfor %}", "{% set (p, q) = (1, 2) %}{{ p }}{{ q }}",
    "{{ d.items()|map('last')|list }}{{ d|dictsort|map('first')|list }}{{ (1, 2)|length }}",
]


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("body"), [], [], body).set_lineno(line)

    def body(self, caller):
        return caller()


def main():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = datetime.datetime(2026, 11, 20).strftime
    sources = ["{{ " + line + " }}" for line in EXPRESSIONS.strip("\n").split("\n")] + TEMPLATES
    cases = []
    for source in sources:
        case = {"source": source}
        try:
            case["text"] = environment.from_string(source).render(**VARIABLES)
        except (jinja2.exceptions.TemplateError, TypeError, ValueError, ArithmeticError, RecursionError):
            pass
        cases.append(case)
    with open(os.path.join(HERE, "jinja_golden.json"), "w", encoding="utf-8") as file:
        json.dump({"variables": VARIABLES, "cases": cases}, file, indent=0, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
