# Walks over the edges of a graph: {node: [(to, text of the condition, condition), ...]}.
#
# Both walks handle only exact str, list, dict and tuple. What they need is allocated before they look,
# and then nothing runs that could switch threads: so `connect` decides and adds in one, without a
# lock that a forked child could inherit locked.


def first(list edges not None, state, /):
    """Return where the first edge leads whose condition holds, or None. O(edges)."""
    cdef Py_ssize_t i = 0
    cdef tuple edge
    while i < PyList_GET_SIZE(edges):
        edge = <tuple>edges[i]
        if edge[2] is None or (<Condition>edge[2]).holds(state):
            return edge[0]
        i += 1
    return None


def connect(dict graph not None, set entered not None, str node not None, tuple edge not None,
            bint acyclic, /):
    """Add an edge that leaves ``node``, unless it closes a cycle: then return that cycle's nodes.

    ``entered`` is the set of nodes that an edge leads to. O(1) where ``node`` has no edge in or its
    target no edge out, else O(what can be reached from the target).
    """
    cdef str to = edge[0]
    cdef str current, target
    cdef list todo, edges_out
    cdef dict reached_from
    cdef list new_from = None if node in graph else []
    cdef list new_to = None if to in graph else []
    if acyclic and node == to:
        return [node, to]
    if acyclic and node in entered and graph.get(to):
        todo = [to]
        reached_from = {to: None}
        while todo:
            current = todo.pop()
            edges_out = graph[current]
            for one in edges_out:
                target = (<tuple>one)[0]
                if target in reached_from:
                    continue
                reached_from[target] = current
                if target == node:
                    return _way(reached_from, target)
                todo.append(target)
    # A node that is there stays there; one that came meanwhile keeps its edges.
    if new_to is not None:
        graph.setdefault(to, new_to)
    if new_from is not None:
        graph.setdefault(node, new_from)
    entered.add(to)
    (<list>graph[node]).append(edge)
    return None


cdef list _way(dict reached_from, node):
    """Return the cycle: the node, its new target, and on to the node again."""
    cdef list cycle = [node]
    current = reached_from[node]
    while current is not None:
        cycle.append(current)
        current = reached_from[current]
    cycle.append(node)
    cycle.reverse()
    return cycle
