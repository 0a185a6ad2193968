# Text into a tree, by recursive descent with one token in hand:
#
#     condition  = all {"or" all}
#     all        = single {"and" single}
#     single     = "not" single | operand [operator operand]
#     operand    = literal | name {"." name} | "(" condition ")"
#     operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in"

cdef enum:
    _MAX_LEVELS = 64  # how deep "(" and "not" may nest

MAX_LEVELS = _MAX_LEVELS

cdef enum _Token:
    _END
    _NAME
    _LITERAL
    _OPERATOR
    _OPEN
    _CLOSE
    _DOT
    _AND
    _OR
    _NOT

cdef dict _WORDS = {
    "and": (_AND, None),
    "or": (_OR, None),
    "not": (_NOT, None),
    "in": (_OPERATOR, _IN),
    "true": (_LITERAL, True),
    "True": (_LITERAL, True),
    "false": (_LITERAL, False),
    "False": (_LITERAL, False),
    "null": (_LITERAL, None),
    "none": (_LITERAL, None),
    "None": (_LITERAL, None),
}

cdef dict _SAID_ELSEWHERE = {"=": "==", "!": "!= or not", "&": "and", "|": "or"}


def parse(str text not None, /):
    """Return a condition.

    Raises:
        ArgumentValueError: ``text`` is not a condition; the error says where and what.
    """
    cdef _Parser parser = _Parser.__new__(_Parser)
    parser.text = text
    parser.size = PyUnicode_GET_LENGTH(text)
    parser.width = PyUnicode_KIND(text)
    parser.characters = PyUnicode_DATA(text)
    parser.next()
    if parser.token == _END:
        raise parser.fault(parser.start, "it is empty")
    found = parser.any()
    if parser.token != _END:
        raise parser.unexpected("the end, 'and' or 'or'")
    return found


@cython.final
@cython.no_gc
cdef class _Parser:
    cdef str text
    cdef int width
    cdef void *characters
    cdef Py_ssize_t size
    cdef Py_ssize_t at          # of the first character behind the token in hand
    cdef Py_ssize_t start       # of the token in hand
    cdef _Token token
    cdef object meaning         # of the token in hand: a literal's value, an operator, a name
    cdef int levels

    # --- The grammar ---

    cdef Condition any(self):
        cdef Condition first = self.all()
        cdef _Any found
        if self.token != _OR:
            return first
        parts = [first]
        while self.token == _OR:
            self.next()
            parts.append(self.all())
        found = _Any.__new__(_Any)
        found.parts = tuple(parts)
        return found

    cdef Condition all(self):
        cdef Condition first = self.single()
        cdef _All found
        if self.token != _AND:
            return first
        parts = [first]
        while self.token == _AND:
            self.next()
            parts.append(self.single())
        found = _All.__new__(_All)
        found.parts = tuple(parts)
        return found

    cdef Condition single(self):
        cdef _Not negated
        cdef Condition left, right
        cdef int operator
        if self.token == _NOT:
            negated = _Not.__new__(_Not)
            self.deeper()
            negated.inner = self.single()
            self.levels -= 1
            return negated
        left = self.operand()
        if self.token != _OPERATOR:
            return left
        operator = self.meaning
        self.next()
        right = self.operand()
        if self.token == _OPERATOR:
            raise self.fault(
                self.start, "comparisons cannot be chained; put 'and' or parentheses between them")
        return _comparison(left, operator, right)

    cdef Condition operand(self):
        cdef _Constant constant
        cdef _Path path
        cdef Condition inner
        cdef list names = None
        if self.token == _NAME:
            path = _Path.__new__(_Path)
            path.name = self.meaning
            self.next()
            while self.token == _DOT:
                self.next()
                if self.token != _NAME:
                    raise self.unexpected("a name after the dot")
                if names is None:
                    names = []
                names.append(self.meaning)
                self.next()
            path.names = None if names is None else tuple(names)
            return path
        if self.token == _LITERAL:
            constant = _Constant.__new__(_Constant)
            constant.constant = self.meaning
            self.next()
            return constant
        if self.token != _OPEN:
            raise self.unexpected("a value")
        self.deeper()
        inner = self.any()
        if self.token != _CLOSE:
            raise self.unexpected("')'")
        self.levels -= 1
        self.next()
        return inner

    cdef int deeper(self) except -1:
        self.levels += 1
        if self.levels > _MAX_LEVELS:
            raise self.fault(
                self.start, f"'(' and 'not' are nested deeper than {_MAX_LEVELS} levels")
        self.next()
        return 0

    # --- Tokens ---

    cdef inline Py_UCS4 char(self, Py_ssize_t at) noexcept:
        return PyUnicode_READ(self.width, self.characters, at)

    cdef int next(self) except -1:
        """Take the next token in hand."""
        cdef Py_ssize_t at = self.at
        cdef Py_UCS4 char, following
        while at < self.size and self.char(at).isspace():
            at += 1
        self.start = at
        if at == self.size:
            self.at = at
            self.token = _END
            return 0
        char = self.char(at)
        following = self.char(at + 1) if at + 1 < self.size else 0
        self.at = at + 1
        if _begins_name(char):
            self.take_word()
        elif char == u"'" or char == u'"':
            self.take_text(char)
        elif u"0" <= char <= u"9" or (char == u"-" and u"0" <= following <= u"9"):
            self.take_number()
        elif char == u"(":
            self.token = _OPEN
        elif char == u")":
            self.token = _CLOSE
        elif char == u".":
            self.token = _DOT
        elif following == u"=" and (char == u"=" or char == u"!" or char == u"<" or char == u">"):
            self.at = at + 2
            self.token = _OPERATOR
            self.meaning = (
                Py_EQ if char == u"=" else Py_NE if char == u"!" else Py_LE if char == u"<" else Py_GE)
        elif char == u"<" or char == u">":
            self.token = _OPERATOR
            self.meaning = Py_LT if char == u"<" else Py_GT
        else:
            problem = f"unexpected character {shown(chr(char))}"
            if chr(char) in _SAID_ELSEWHERE:
                problem += f"; write {_SAID_ELSEWHERE[chr(char)]}"
            raise self.fault(at, problem)
        return 0

    cdef int take_word(self) except -1:
        cdef Py_ssize_t at = self.at
        while at < self.size and _continues_name(self.char(at)):
            at += 1
        self.at = at
        cdef str word = self.text[self.start:at]
        cdef PyObject *known = NULL
        if at - self.start <= 5:
            known = PyDict_GetItemWithError(_WORDS, word)
        if known is NULL:
            self.token = _NAME
            self.meaning = _interned(word)
        else:
            self.token = (<tuple>known)[0]
            self.meaning = (<tuple>known)[1]
        return 0

    cdef int take_text(self, Py_UCS4 quote) except -1:
        cdef Py_ssize_t at = self.at
        cdef Py_ssize_t copied = at
        cdef Py_UCS4 char
        cdef list parts = None
        while at < self.size:
            char = self.char(at)
            if char == quote:
                break
            if char == u"\\" and at + 1 < self.size:
                if parts is None:
                    parts = []
                parts.append(self.text[copied:at])
                char = self.char(at + 1)
                parts.append("\n" if char == u"n" else "\t" if char == u"t" else chr(char))
                at += 1
                copied = at + 1
            at += 1
        else:
            raise self.fault(self.start, "the string is not closed")
        self.token = _LITERAL
        self.meaning = self.text[copied:at]
        if parts is not None:
            parts.append(self.meaning)
            self.meaning = "".join(parts)
        self.at = at + 1
        return 0

    cdef int take_number(self) except -1:
        cdef bint whole = True
        cdef Py_ssize_t at = self.after_digits(self.at)
        cdef Py_ssize_t digits
        if at < self.size and self.char(at) == u".":
            digits = self.after_digits(at + 1)
            if digits > at + 1:
                whole, at = False, digits
        if at < self.size and (self.char(at) == u"e" or self.char(at) == u"E"):
            digits = at + 1
            if digits < self.size and (self.char(digits) == u"+" or self.char(digits) == u"-"):
                digits += 1
            if self.after_digits(digits) > digits:
                whole, at = False, self.after_digits(digits)
        self.at = at
        self.token = _LITERAL
        number = self.text[self.start:at]
        if whole:
            try:
                self.meaning = int(number)
            except ValueError:  # Python's limit on the digits of an int
                raise self.fault(self.start, "the number has too many digits") from None
        else:
            self.meaning = float(number)
            if self.meaning - self.meaning != 0:
                raise self.fault(self.start, "the number is too large for a float")
        return 0

    cdef Py_ssize_t after_digits(self, Py_ssize_t at):
        while at < self.size and u"0" <= self.char(at) <= u"9":
            at += 1
        return at

    # --- Faults ---

    cdef object unexpected(self, str wanted):
        if self.token == _END:
            return self.fault(self.start, f"expected {wanted}, but the condition ends")
        return self.fault(
            self.start, f"expected {wanted}, not {shown(self.text[self.start:self.at])}")

    cdef object fault(self, Py_ssize_t at, str problem):
        return ArgumentValueError(
            f"invalid condition {shown(self.text)} at index {at}: {problem}")


cdef object _interned(object word):
    """Return the one object for a name that nearly all keys are, which then need no comparison."""
    cdef PyObject *one = <PyObject *>word
    Py_INCREF(word)
    PyUnicode_InternInPlace(&one)
    found = <object>one
    Py_DECREF(found)
    return found


cdef bint _begins_name(Py_UCS4 char) except -1:
    if char < 128:
        return u"a" <= char <= u"z" or u"A" <= char <= u"Z" or char == u"_"
    return char.isalpha() or chr(char).isidentifier()


cdef bint _continues_name(Py_UCS4 char) except -1:
    if char < 128:
        return _begins_name(char) or u"0" <= char <= u"9"
    # Not every part of a word is a letter: the vowel signs of many scripts are marks.
    return char.isalnum() or f"_{chr(char)}".isidentifier()
